package syntax

// Nearest returns the known name with the smallest edit distance to name, or "" if there is none.
func Nearest(name string, known []string) string {
	// A name longer than any key cannot be near; truncating it bounds the work.
	name = name[:min(len(name), 100)]
	best, fewest := "", 1<<30
	for _, k := range known {
		if edits := EditDistance(name, k); edits < fewest {
			best, fewest = k, edits
		}
	}
	return best
}

// EditDistance counts the insertions, deletions and replacements of bytes that turn a into b (Levenshtein).
func EditDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
