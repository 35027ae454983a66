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
		return because("this node was removed from its ensemble: a new node needs an empty data folder", m.r.Reason)
	case Faulty:
		return because("this node has lost data that it had acknowledged: it must not take part in the ensemble again", m.r.Reason)
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
		return fmt.Sprintf("waiting to be added to ensemble %s by a member at %s", m.target, strings.Join(slices.Sorted(maps.Keys(m.doors)), ", "))
	}
	if len(m.r.Released) >= MaxReleased {
		return "gave up founding an ensemble after too many attempts. Compare the flags of all nodes, then start with an empty data folder"
	}
	switch m.cfg.How {
	case Alone:
		if m.caller != (ID{}) {
			return fmt.Sprintf("not founding an ensemble: members of ensemble %s expect node %016x at this address. To rejoin it, start with --join", m.caller, m.misses)
		}
		return "checking whether an existing ensemble knows this address"
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
			wrong = append(wrong, p.Name+" takes part in another founding attempt")
		case a.State != Blank:
			wrong = append(wrong, fmt.Sprintf("%s is in state %s", p.Name, a.State))
		case a.From.ID < lowest.ID:
			lowest = Node{a.From.ID, p.Name, p.Addr}
		}
	}
	switch {
	case len(wrong) > 0:
		return "not founding an ensemble: " + strings.Join(wrong, "; ")
	case len(missing) > 0:
		return "waiting for " + strings.Join(missing, ", ") + ": the first start needs all nodes"
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
			odd = append(odd, fmt.Sprintf("; %s expects %d nodes", c.Name, c.N))
		}
	}
	switch n := len(names); {
	case len(m.clusters()) > 1:
		return fmt.Sprintf("not joining: %d ensembles have this cluster's name. Choose one with --join", len(m.clusters()))
	case n > m.cfg.N:
		return fmt.Sprintf("not founding an ensemble: found %d blank nodes (%s), expected %d. Stop the extra nodes", n, list, m.cfg.N)
	case n < m.cfg.N:
		return fmt.Sprintf("waiting for %d more of %d nodes (seen: %s%s): the first start needs all nodes", m.cfg.N-n, m.cfg.N, list, strings.Join(odd, ""))
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
			name += fmt.Sprintf(" (another node, %016x, answers at its address)", by)
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
		return "waiting for " + strings.Join(open, ", ") + " to promise: the first start needs all nodes"
	case m.r.Voted:
		return fmt.Sprintf("%s has lost its disk: waiting for %s to give up the same founding attempt", plan.Members[0].Name, strings.Join(holding, ", "))
	}
	return fmt.Sprintf("promised: waiting for %s to decide, which needs %s", plan.Members[0].Name, strings.Join(open, ", "))
}
