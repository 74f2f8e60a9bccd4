package terminal

import (
	"strconv"
	"time"
)

// Duration returns a duration for people, rounded to one unit that leaves at least two digits where it can: 12.5 ms, 90 s, 10 d.
func Duration(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	const day = 24 * time.Hour
	switch {
	case d == 0:
		return "0 s"
	case d < 10*time.Millisecond-50*time.Microsecond:
		return sign + decimal(float64(d)/float64(time.Millisecond), 2) + " ms"
	case d < time.Second-500*time.Microsecond:
		return sign + decimal(float64(d)/float64(time.Millisecond), 1) + " ms"
	case d < 10*time.Second:
		return sign + decimal(d.Seconds(), 1) + " s"
	case d < 2*time.Minute:
		return sign + whole(d, time.Second) + " s"
	case d < 2*time.Hour:
		return sign + whole(d, time.Minute) + " min"
	case d < 2*day:
		return sign + whole(d, time.Hour) + " h"
	}
	return sign + whole(d, day) + " d"
}

// decimal formats a number with at most digits behind the point, without trailing zeros.
func decimal(v float64, digits int) string {
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'f', digits, 64), 64) // what FormatFloat wrote
	return strconv.FormatFloat(v, 'f', -1, 64)
}

func whole(d, unit time.Duration) string { return strconv.FormatInt(int64((d+unit/2)/unit), 10) }

// Since returns a time of the past or future relative to now: 2 s ago, in 10 d, now; or a dash for the zero time.
func Since(t, now time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return "-"
	}
	switch d := now.Sub(t).Round(time.Second); {
	case d > 0:
		return Duration(d) + " ago"
	case d < 0:
		return "in " + Duration(-d)
	}
	return "now"
}

// When is Since for a time as the hub's API writes it. Other text is shown as it is, in one line, and none as a dash.
func When(text string, now time.Time) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return OrDash(text)
	}
	return Since(t, now)
}

// Bytes returns a size for people: 12 bytes, 1.2 MiB.
func Bytes(n int64) string {
	if n > -1024 && n < 1024 {
		if n == 1 {
			return "1 byte"
		}
		return strconv.FormatInt(n, 10) + " bytes"
	}
	v := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		v /= 1024
		if v > -1023.95 && v < 1023.95 || unit == "TiB" {
			return decimal(v, 1) + " " + unit
		}
	}
	return ""
}
