//go:build !race

package faults

const withRaceDetector = false
