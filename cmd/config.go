package cmd

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// maxConfigBytes is the largest configuration file.
const maxConfigBytes = 1 << 20

// readConfig applies a configuration file. The warnings are for the user.
func readConfig(o *serverOptions, file string) (warnings []string, err error) {
	f, err := os.Open(file)
	if err == nil {
		defer f.Close()
		var info os.FileInfo
		if info, err = f.Stat(); err == nil && info.Size() > maxConfigBytes {
			return nil, fmt.Errorf("%s is larger than 1 MiB", file)
		}
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		err = bare(err)
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if warnings, err = applyConfig(o, string(text)); err != nil {
		err = fmt.Errorf("%s: %w", file, err)
	}
	for i := range warnings {
		warnings[i] = file + ": " + warnings[i]
	}
	return warnings, err
}

// applyConfig applies the text of a configuration file: our own keys are the
// flags' names, ZooKeeper's are those of zooKeys and zooIgnored.
func applyConfig(o *serverOptions, text string) (warnings []string, err error) {
	all, err := parseProperties(text)
	if err != nil {
		return nil, err
	}
	// As in ZooKeeper the last one of a key counts.
	last := map[string]int{}
	var twice, ignored []string
	for i, p := range all {
		key := strings.TrimPrefix(p.key, "zookeeper.")
		if before, ok := last[key]; ok {
			twice = append(twice, fmt.Sprintf("%s (line %d)", p.key, all[before].line))
		}
		last[key] = i
	}
	var listen zooListen
	ourListen, zooLine := 0, 0
	decided := map[string]string{} // setting: the key that decided it
	for i, p := range all {
		if last[strings.TrimPrefix(p.key, "zookeeper.")] != i {
			continue
		}
		at := func(err error) error { return fmt.Errorf("line %d: %s: %w", p.line, p.key, err) }
		s, z := settingNamed(p.key), zooKeyNamed(p.key)
		switch {
		case s == nil && z != nil && z.like != "":
			s = settingNamed(z.like)
		case z != nil && z.refused != nil:
			switch {
			case !z.refused(p.value):
				continue
			case z.why == "":
				return nil, ensembleError(fmt.Sprintf("line %d: %s", p.line, p.key))
			}
			return nil, at(errors.New(z.why))
		}
		if s != nil {
			if by, ok := decided[s.name]; ok {
				return nil, at(fmt.Errorf("%s has decided that already", by))
			}
			decided[s.name] = p.key
		}
		switch {
		case s != nil:
			if s.name == "listen" {
				ourListen = p.line
			}
			if err := s.apply(o, []string{p.value}); err != nil {
				return nil, at(err)
			}
		case z != nil && z.name == "clientPort":
			listen.port, zooLine = p.value, p.line
		case z != nil && z.name == "clientPortAddress":
			listen.address = p.value
		case z != nil:
			if err := z.set(o, p.value); err != nil {
				return nil, at(err)
			}
		case isZooIgnored(p.key):
			ignored = append(ignored, fmt.Sprintf("%s (line %d)", p.key, p.line))
		case isEnsembleSetting(p.key):
			return nil, ensembleError(fmt.Sprintf("line %d: %s", p.line, p.key))
		default:
			return nil, unknownKey(p)
		}
	}
	if ourListen > 0 && zooLine > 0 {
		return nil, fmt.Errorf("line %d: listen and line %d: clientPort both say where to listen", ourListen, zooLine)
	}
	if err := listen.apply(o); err != nil {
		return nil, fmt.Errorf("line %d: %w", zooLine, err)
	}
	if len(twice) > 0 {
		warnings = append(warnings, "given again further down, which counts: "+strings.Join(twice, ", "))
	}
	if len(ignored) > 0 {
		warnings = append(warnings, "without meaning here: "+strings.Join(ignored, ", "))
	}
	return warnings, nil
}

func isEnsembleSetting(name string) bool {
	for _, e := range ensembleSettings {
		if e.name == name {
			return true
		}
	}
	return false
}

// unknownKey refuses a key, with the one that was perhaps meant.
func unknownKey(p property) error {
	var names []string
	for _, s := range settings {
		names = append(names, s.name)
	}
	for _, z := range zooKeys {
		names = append(names, z.name)
	}
	e := &usageError{msg: fmt.Sprintf("line %d: unknown key %s", p.line, quote(p.key))}
	if near := nearest(names, p.key); near != "" {
		e.hint = "did you mean " + near + "?"
	}
	return e
}
