package config

import "strings"

// nearest returns the long name that was probably meant, or "" if none is near.
func nearest(typed string) string {
	const maxDistance = 2 // single letters added, left out or changed
	best, bestDistance := "", maxDistance+1
	for _, o := range options {
		distance := editDistance(typed, o.name)
		if len(typed) > maxDistance && strings.HasPrefix(o.name, typed) {
			distance = 0
		}
		if distance < bestDistance {
			best, bestDistance = o.name, distance
		}
	}
	return best
}

// editDistance is the Levenshtein distance in bytes. Words that differ in length by
// more than the longest option name are not worth the time.
func editDistance(a, b string) int {
	const tooLong = 32 // bytes; longer than any option
	if len(a) > tooLong {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
