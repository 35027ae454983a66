package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/peterh/liner"

	"coord/client"
)

// maxCompletions is how many children Tab looks at: nobody reads more, and a list
// of a million would not arrive in time.
const maxCompletions = 1000

// shellCompleteWithin is how long Tab may take.
const shellCompleteWithin = time.Second

// interact runs lines from the keyboard until exit or Ctrl-D.
func (s *shell) interact(ctx context.Context) error {
	base := context.WithoutCancel(ctx) // SIGINT ends a command, not the shell
	s.r.stdout.ctx, s.r.stderr.ctx = base, base
	cooked, err := liner.TerminalMode()
	if err != nil {
		return err
	}
	ed := liner.NewLiner()
	raw, err := liner.TerminalMode()
	if err != nil {
		return errors.Join(err, ed.Close())
	}
	defer ed.Close()
	ed.SetCtrlCAborts(true)
	ed.SetBeep(false)
	ed.SetTabCompletionStyle(liner.TabPrints)
	ed.SetWordCompleter(s.completer(base))

	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(quit)
	intr := make(chan os.Signal, 1) // otherwise SIGINT at the prompt would end the process
	signal.Notify(intr, syscall.SIGINT)
	defer signal.Stop(intr)

	if os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && s.r.tty {
		plain := s.r.err
		s.r.err = &painter{w: plain}
		defer func() { s.r.err = plain }()
	}
	history := readHistory(ed)
	s.welcome(base)
	type typed struct {
		line string
		err  error
	}
	for {
		lines := make(chan typed, 1)
		go func() {
			line, err := s.prompt(ed)
			lines <- typed{line, err}
		}()
		var got typed
		select {
		case got = <-lines:
		case sig := <-quit:
			return ended(sig)
		}
		switch {
		case errors.Is(got.err, liner.ErrPromptAborted):
			continue
		case errors.Is(got.err, io.EOF):
			s.r.printf("\n")
			return s.r.flush()
		case got.err != nil:
			return got.err
		}
		words, err := splitWords(got.line)
		if err == nil && len(words) == 0 {
			continue
		}
		if !strings.HasPrefix(got.line, " ") {
			ed.AppendHistory(strings.ReplaceAll(got.line, "\n", " "))
			history.save(ed)
		}
		if err == nil {
			_ = cooked.ApplyMode()
			err = s.typed(base, words, quit)
			_ = raw.ApplyMode()
		}
		if stop, ok := errors.AsType[*exitRequest](err); ok {
			return stop.ended()
		}
		if by, ok := errors.AsType[*signalError](err); ok && by.sig != syscall.SIGINT || errors.Is(err, errOut) {
			return err
		}
		if err != nil {
			s.r.report(err)
		}
	}
}

// typed runs a line. Ctrl-C ends the line; TERM and HUP end the line and the shell.
func (s *shell) typed(ctx context.Context, words []lineWord, quit chan os.Signal) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = s.line(ctx, words)
	}()
	select {
	case <-done:
		return err
	case sig := <-quit:
		n, _ := sig.(syscall.Signal)
		cancel(&signalError{sig: n})
		<-done
		return ended(sig)
	}
}

// ended is the error of a shell that a signal has ended. Earlier signals to commands do not matter.
func ended(sig os.Signal) error {
	n, _ := sig.(syscall.Signal)
	return &codeError{exitSignal + int(n), &signalError{sig: n}}
}

// prompt reads a line, and the lines after it while a quote is open.
func (s *shell) prompt(ed *liner.State) (line string, err error) {
	text := "coord:" + s.cwd + "> "
	for {
		more, err := ed.Prompt(text)
		if err != nil {
			return "", err
		}
		line += more
		if _, err := splitWords(line); err == nil {
			return line, nil
		}
		line += "\n"
		text = "> "
	}
}

// welcome says to which server the shell talks.
func (s *shell) welcome(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := s.r.reach(ctx)
	if err != nil {
		s.r.report(err)
		return
	}
	h := c.Hello()
	s.r.note("%s: node %s, %s, coord %s. help lists the commands, Tab completes, exit ends.", c.Server(), h.Node, h.Role, h.Version)
}

// historyFile is the file with the lines of earlier shells.
type historyFile struct{ name string }

// readHistory reads the history. It is only a convenience: errors are ignored.
func readHistory(ed *liner.State) historyFile {
	dir, err := stateDir()
	if err != nil || os.MkdirAll(dir, 0o700) != nil {
		return historyFile{}
	}
	h := historyFile{filepath.Join(dir, "history")}
	if f, err := os.Open(h.name); err == nil {
		_, _ = ed.ReadHistory(f)
		_ = f.Close()
	}
	return h
}

// save writes the history after each line, so that a shell that is killed loses
// nothing. It contains values, so only the user may read it.
func (h historyFile) save(ed *liner.State) {
	if h.name == "" {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(h.name), ".history-") // mode 0600
	if err != nil {
		return
	}
	_, err = ed.WriteHistory(f)
	if errors.Join(err, f.Close()) != nil || os.Rename(f.Name(), h.name) != nil {
		_ = os.Remove(f.Name())
	}
}

// painter writes errors in red and hints dim.
type painter struct{ w io.Writer }

func (p *painter) Write(b []byte) (int, error) {
	colour := ""
	switch {
	case bytes.HasPrefix(b, []byte("coord: ")):
		colour = "\x1b[31m"
	case bytes.HasPrefix(b, []byte("hint: ")):
		colour = "\x1b[2m"
	default:
		return p.w.Write(b)
	}
	if _, err := fmt.Fprintf(p.w, "%s%s\x1b[0m\n", colour, bytes.TrimSuffix(b, []byte("\n"))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// completer completes the word at the cursor: a command, a flag or a path.
func (s *shell) completer(ctx context.Context) liner.WordCompleter {
	return func(line string, pos int) (head string, all []string, tail string) {
		runes := []rune(line)
		before, tail := string(runes[:pos]), string(runes[pos:])
		words, err := splitWords(before + "\x00") // marks the word at the cursor, even if it is empty
		if err != nil && !errors.Is(err, errOpenQuote) || len(words) == 0 {
			return before, nil, tail
		}
		last := words[len(words)-1]
		if !strings.HasSuffix(last.text, "\x00") || last.start < 0 { // the cursor is in a comment
			return before, nil, tail
		}
		typed := strings.TrimSuffix(last.text, "\x00")
		var args []string
		for _, w := range words[:len(words)-1] {
			args = append(args, w.text)
		}
		ctx, cancel := context.WithTimeout(ctx, shellCompleteWithin)
		defer cancel()
		return before[:last.start], s.completions(ctx, args, typed), tail
	}
}

// completions are the possible completions of a word.
func (s *shell) completions(ctx context.Context, args []string, typed string) (all []string) {
	if len(args) > 0 && args[0] == "coord" {
		args = args[1:]
	}
	add := func(word string) {
		if strings.HasPrefix(word, typed) {
			all = append(all, quoteWord(word)+" ")
		}
	}
	switch {
	case len(args) == 0:
		for _, c := range commands() {
			if !strings.Contains(c.name, " ") && !slices.Contains(notInShell, c.name) {
				add(c.name)
			}
		}
		for _, row := range shellOwn {
			name, _, _ := strings.Cut(row.Name, " ")
			add(name)
		}
		slices.Sort(all)
		return all
	case args[0] == "cd":
		if len(args) == 1 {
			return s.paths(ctx, typed)
		}
		return nil
	case args[0] == "help":
		for _, c := range commands() {
			if rest, ok := strings.CutPrefix(c.name, strings.Join(append(args[1:], ""), " ")); ok && !strings.Contains(rest, " ") {
				add(rest)
			}
		}
		return all
	}
	l, err := parseLine(commands(), args)
	if err != nil || l.command == nil {
		return nil
	}
	if strings.HasPrefix(typed, "-") && l.literal == len(l.args) && !slices.Contains(args, "--") {
		for _, f := range l.command.allFlags() {
			for _, n := range f.Names() {
				add(dashes(n))
			}
		}
		slices.Sort(all)
		return all
	}
	if len(l.args) == 0 {
		for _, c := range commands() {
			if sub, ok := strings.CutPrefix(c.name, l.command.name+" "); ok {
				add(sub)
			}
		}
	}
	if isPath(l.command, len(l.args)) {
		all = append(all, s.paths(ctx, typed)...)
	}
	return all
}

// dashes is a flag as it is typed.
func dashes(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// paths completes a path from the live tree. Znodes with children end with /, so
// that Tab can continue.
func (s *shell) paths(ctx context.Context, typed string) (all []string) {
	dir, name := "", typed
	if i := strings.LastIndexByte(typed, '/'); i >= 0 {
		dir, name = typed[:i+1], typed[i+1:]
	}
	parent := s.cwd
	if dir != "" {
		parent = s.resolve(dir, false)
	}
	c, err := s.r.reach(ctx)
	if err != nil {
		return nil
	}
	n := 0
	for it, err := range c.Ls(ctx, parent, client.ListOptions{Stat: true, Page: maxCompletions}) {
		if n++; err != nil || n > maxCompletions {
			break
		}
		child := it.Path[strings.LastIndexByte(it.Path, '/')+1:]
		if !strings.HasPrefix(child, name) {
			continue
		}
		end := " "
		if it.Stat.NumChildren > 0 {
			end = "/"
		}
		all = append(all, quoteWord(dir+child)+end)
	}
	return all
}
