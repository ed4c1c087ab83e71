package cloud

import (
	api "github.com/ankacluster/ankacluster/controllerapi"
)

// AboutSameLoad reports whether a person would see no difference.
func AboutSameLoad(a, b api.NodeLoad) bool {
	return diff(a.CPUUtil, b.CPUUtil) < 0.1 && diff(a.RAMUtil, b.RAMUtil) < 0.1 &&
		diff(float64(a.FreeDiskSpace), float64(b.FreeDiskSpace)) < 1e9 &&
		diff(float64(a.AnkaDiskUsage), float64(b.AnkaDiskUsage)) < 1e9 &&
		sameNumbers(a.Numbers, b.Numbers)
}

func sameNumbers(a, b *api.NodeNumbers) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func diff(a, b float64) float64 { return max(a-b, b-a) }
