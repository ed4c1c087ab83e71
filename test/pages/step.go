package pages

import "regexp"

// Step is a command of the pages that is typed on hosts with the addresses of the
// pages.
type Step struct {
	// Command is what the pages have. It is typed as it stands, without sudo.
	Command string
	// Also are other commands of the pages that the same typing stands for.
	Also []string
	// On are the hosts that it is typed on, at the same time, by the last number of
	// their addresses.
	On []int
	// Before is shell that makes what the page takes for granted, such as a folder.
	Before string
	// Names are what stands for the pages' placeholders, by turns: "URL", "http://…".
	Names []string
	// Unwritten is set for what the pages say in words.
	Unwritten bool
	// Serves is set for what goes on until the end of the story.
	Serves bool
	// Awaits is what it prints at last: until then it is typed again. Prints is what
	// it prints at once. Both are regular expressions.
	Awaits, Prints string
	// Learn names what the first group of Prints or Awaits finds: later commands
	// have it in the place of <name>.
	Learn string
}

// Story is a cloud that is made by commands of the pages, in the order of Steps.
type Story struct {
	Name string
	// Hosts are the machines, as in Step.On; Mac is the one of them that has the
	// commands anka and tart.
	Hosts []int
	Mac   int
	Steps []Step
}

// remarkable is what no command may print.
var remarkable = regexp.MustCompile(`(?i)panic: |unknown (flag|command|option)|flag provided but not defined`)

// Wrong reports whether what a command printed shows that it was not understood.
func Wrong(out string) bool { return remarkable.MatchString(out) }
