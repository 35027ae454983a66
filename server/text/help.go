package text

import (
	"slices"
	"strings"
)

// helpNotes are the last lines of the list that HELP returns.
var helpNotes = []string{
	"a value is the last argument: a word, a quoted string, or :N and then N bytes and a line end",
	"in bash: export LC_ALL=C before read -N, or use FORMAT b64; close inherited descriptors with 3>&-",
	"HELP verb explains a verb",
}

// Help returns the answer to HELP: an explanation of the verb of that name or, if name is empty,
// the forms of all verbs.
func Help(name string) Reply {
	r := Reply{Kind: KindList}
	add := func(line string, fields ...Field) {
		r.Items = append(r.Items, Reply{Kind: KindItem, Arg: line, Fields: fields})
	}
	if name == "" {
		for v := Verb(1); v < numVerbs; v++ {
			add(verbs[v].form)
		}
		for _, note := range helpNotes {
			add(note)
		}
		return r
	}
	id := findVerb([]byte(name))
	if id == 0 {
		return unknownVerb(&arg{val: []byte(name)}).Reply()
	}
	v := &verbs[id]
	add(v.form)
	add(v.does)
	for _, s := range v.replies {
		add("reply: " + s)
	}
	add("errors: " + strings.Join(v.errorWords(), " "))
	for _, s := range v.example {
		add("example: " + s)
	}
	add("since: " + v.since)
	return r
}

// errorWords returns the words of all errors that a verb can answer, its own first.
func (v *verb) errorWords() []string {
	all := v.errors
	if v.write {
		all = append(slices.Clip(all), writeErrors...)
	}
	var words []string
	for _, c := range append(slices.Clip(all), anyErrors...) {
		words = append(words, c.Word())
	}
	return words
}
