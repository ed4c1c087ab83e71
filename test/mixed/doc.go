// Package mixed runs one cloud with servers and agents of two versions: those of this
// tree, and those of a commit from before. A cloud is upgraded host by host and Mac
// by Mac, and put back the same way; no caller may notice.
package mixed
