package registry

// FormMistakes returns what is wrong with a text's form alone, which is what the JSON Schema says, too.
func FormMistakes(text []byte) []Mistake {
	m := &mistakes{}
	s := grammar()
	if t := treeOf(text, s, m); t != nil {
		(&walk{mistakes: m, plain: t.plain, draft: true, known: func(string) (string, bool) { return "", false }}).node(t.root, s, &place{})
	}
	return m.sorted()
}
