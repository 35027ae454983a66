package founding

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Waiting says in words what this node waits for; "" if for nothing.
func (m *Machine) Waiting() string {
	switch m.r.State {
	case Blank:
		return m.blankWaits()
	case Promised:
		return m.promisedWaits()
	case Removed:
		return because("this node was removed from its ensemble: a new one needs an empty data folder", m.r.Reason)
	case Faulty:
		return because("this node has lost data it had acknowledged: it must not take part again", m.r.Reason)
	}
	return ""
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + " (" + why + ")"
}

func (m *Machine) blankWaits() string {
	if m.target != (ID{}) {
		return fmt.Sprintf("waiting to be taken into ensemble %s by a member at %s", m.target, strings.Join(slices.Sorted(maps.Keys(m.doors)), ", "))
	}
	if len(m.r.Released) >= MaxReleased {
		return "no more foundings are tried: every one was given up. Compare the flags of all nodes, then start with an empty data folder"
	}
	switch m.cfg.How {
	case Alone:
		if m.caller != (ID{}) {
			return fmt.Sprintf("not founding: members of ensemble %s expect node %016x at this address. To come back to it start with --join", m.caller, m.misses)
		}
		return "listening whether an ensemble knows this address"
	case Seeded:
		var addrs []string
		for _, p := range m.asked() {
			addrs = append(addrs, p.Addr)
		}
		return "waiting for a member of an ensemble at " + strings.Join(addrs, ", ")
	case Initial:
		return m.initialWaits()
	}
	return m.expectWaits()
}

func (m *Machine) initialWaits() string {
	var missing, wrong []string
	lowest := m.cfg.Self
	for _, p := range m.cfg.Peers {
		if m.isSelf(p) {
			continue
		}
		switch a := m.heard[p.Addr]; {
		case a == nil:
			missing = append(missing, p.Name)
		case m.disagrees(p, a) != "":
			wrong = append(wrong, m.disagrees(p, a))
		case a.State == Promised:
			wrong = append(wrong, p.Name+" is part of another founding")
		case a.State != Blank:
			wrong = append(wrong, fmt.Sprintf("%s is %s", p.Name, a.State))
		case a.From.ID < lowest.ID:
			lowest = Node{a.From.ID, p.Name, p.Addr}
		}
	}
	switch {
	case len(wrong) > 0:
		return "no founding: " + strings.Join(wrong, "; ")
	case len(missing) > 0:
		return "waiting for " + strings.Join(missing, ", ") + ": a first start needs all"
	}
	return "waiting for " + lowest.Name + " to propose"
}

func (m *Machine) expectWaits() string {
	names := []string{m.cfg.Self.Name}
	for _, c := range m.blank() {
		names = append(names, c.Name)
	}
	list := strings.Join(names, ", ")
	var odd []string
	for _, c := range m.seen {
		if c.State == Blank && c.N != 0 && c.N != m.cfg.N && c.ID != m.cfg.Self.ID {
			odd = append(odd, fmt.Sprintf("; %s expects %d", c.Name, c.N))
		}
	}
	switch n := len(names); {
	case len(m.clusters()) > 1:
		return fmt.Sprintf("not joining: %d ensembles have this cluster's name. Choose one with --join", len(m.clusters()))
	case n > m.cfg.N:
		return fmt.Sprintf("not founding: %d blank nodes are seen (%s), %d are expected. Stop those that are too many", n, list, m.cfg.N)
	case n < m.cfg.N:
		return fmt.Sprintf("waiting for %d more of %d nodes (seen: %s%s): a first start needs all", m.cfg.N-n, m.cfg.N, list, strings.Join(odd, ""))
	}
	return "waiting for all of " + list + " to see each other"
}

func (m *Machine) promisedWaits() string {
	plan := m.r.Plan
	var open, holding []string
	for _, p := range plan.Members {
		if p.ID == m.cfg.Self.ID {
			continue
		}
		name := p.Name
		if by := m.instead[p.ID]; by != 0 {
			name += fmt.Sprintf(" (at its address answers another node, %016x)", by)
		}
		if !m.yes[p.ID] {
			open = append(open, name)
		}
		if p.ID != plan.Proposer() && !m.against[p.ID] {
			holding = append(holding, name)
		}
	}
	switch {
	case m.proposes():
		return "waiting for " + strings.Join(open, ", ") + " to promise: a first start needs all"
	case m.r.Voted:
		return fmt.Sprintf("%s has lost its disk: waiting for %s to give up its founding too", plan.Members[0].Name, strings.Join(holding, ", "))
	}
	return fmt.Sprintf("promised: waiting for %s to decide, which needs %s", plan.Members[0].Name, strings.Join(open, ", "))
}
