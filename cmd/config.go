package cmd

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// maxConfigBytes is the largest configuration file.
const maxConfigBytes = 1 << 20

// readConfig applies a configuration file. It returns warnings for the user.
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

// applyConfig applies the text of a configuration file. Our own keys are the names
// of the flags; ZooKeeper's keys are in zooKeys and zooIgnored.
func applyConfig(o *serverOptions, text string) (warnings []string, err error) {
	all, err := parseProperties(text)
	if err != nil {
		return nil, err
	}
	// As in ZooKeeper, the last value of a key counts.
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
	var ours, theirs *property     // keys that say where to listen
	decided := map[string]string{} // from a setting to the key that has decided it
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
			if !z.refused(p.value) {
				continue
			}
			return nil, at(errors.New(z.why))
		}
		decides := ""
		if s != nil {
			decides = s.name
		} else if z != nil {
			decides = z.decides
		}
		if by, ok := decided[decides]; ok && decides != "" {
			return nil, at(fmt.Errorf("already set by %s", by))
		}
		decided[decides] = p.key
		switch {
		case s != nil:
			if s.name == "listen" {
				ours = &all[i]
			}
			if err := s.apply(o, []string{p.value}); err != nil {
				return nil, at(err)
			}
		case z != nil && z.name == "clientPort":
			listen.port, theirs = p.value, &all[i]
		case z != nil && z.name == "clientPortAddress":
			listen.address = p.value
		case z != nil && z.name == "server.N":
			if err := o.zoo.add(p.key, p.value); err != nil {
				return nil, at(err)
			}
			if theirs == nil && o.zoo.all[len(o.zoo.all)-1].listen != "" {
				theirs = &all[i]
			}
		case z != nil:
			if err := z.set(o, p.value); err != nil {
				return nil, at(err)
			}
		case isZooIgnored(p.key):
			ignored = append(ignored, fmt.Sprintf("%s (line %d)", p.key, p.line))
		default:
			return nil, unknownKey(p)
		}
	}
	if ours != nil && theirs != nil {
		return nil, fmt.Errorf("line %d: %s and line %d: %s both set the address to listen on", ours.line, ours.key, theirs.line, theirs.key)
	}
	if o.zoo.listen, err = listen.addr(); err != nil {
		return nil, fmt.Errorf("line %d: %w", theirs.line, err)
	}
	if o.zoo.listen != "" {
		o.Listen = []string{o.zoo.listen}
	}
	if len(twice) > 0 {
		warnings = append(warnings, "overridden by a later line: "+strings.Join(twice, ", "))
	}
	if len(ignored) > 0 {
		warnings = append(warnings, "ignored, no effect here: "+strings.Join(ignored, ", "))
	}
	return warnings, nil
}

// unknownKey refuses a key and suggests the one that was perhaps meant.
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
