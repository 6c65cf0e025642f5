package bench

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Sample is what was measured of one thing, once each round.
type Sample []float64

// Median is the middle one, NaN of none.
func (s Sample) Median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// String prints the median and in which range all were.
func (s Sample) String() string {
	switch {
	case len(s) == 0:
		return "-"
	case slices.Min(s) == slices.Max(s):
		return number(s[0])
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median()), number(slices.Min(s)), number(slices.Max(s)))
}

// ratios are those of the rounds of two samples that were measured in turns.
func ratios(ours, theirs Sample) Sample {
	var r Sample
	for i := range min(len(ours), len(theirs)) {
		r = append(r, ours[i]/theirs[i])
	}
	return r
}

// number prints with three digits or all of the integer part, with commas.
func number(f float64) string {
	switch a := math.Abs(f); {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return "-"
	case a == math.Trunc(a) && a < 1000:
		return fmt.Sprintf("%.0f", f)
	case a < 0.1:
		return fmt.Sprintf("%.3f", f)
	case a < 10:
		return fmt.Sprintf("%.2f", f)
	case a < 100:
		return fmt.Sprintf("%.1f", f)
	}
	digits := fmt.Sprintf("%.0f", f)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// timeQuantile returns the time that the part q of the messages did not exceed.
func timeQuantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
