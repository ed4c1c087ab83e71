package server

import (
	"maps"
	"slices"

	"go.uber.org/zap"
)

const zapErrorLevel = zap.ErrorLevel

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
