// Package query is the one grammar in which people and programs ask lists for a part of
// them: q, sort, limit and after.
//
//	query      = { [ "-" ] ( word | key ":" value { "," value } | key compare value ) }
//	compare    = ">" | ">=" | "<" | "<="
//	word,value = letters without space, or "in quotes", where \" is a quote
//
// All terms must hold; a minus before one means that it must not; of a list one value is
// enough. A word is looked for in what the list's objects are called. A value of text is
// compared whole and without regard to case, where * stands for anything. Numbers take
// K, M, G and T, ages s, m, h, d and w.
//
// It is pure, and bounded: see MaxLength and MaxTerms. What an object has is told by a
// Schema; the package knows no cloud.
package query
