package replica

import "time"

// ticks says whether time passes for raft: a sole member waits for nobody.
func (r *Replica) ticks() bool {
	m := &r.core.members
	return r.cfg.Peers != nil && (len(m.Others) > 0 || !m.sole(r.cfg.NodeID))
}

// passTime makes up for the ticks since the last turn.
func (r *Replica) passTime() {
	c := &r.core
	if c.lastTick.IsZero() {
		return
	}
	n := time.Since(c.lastTick) / r.cfg.Tick
	c.lastTick = c.lastTick.Add(n * r.cfg.Tick)
	r.pass(int(n))
}

// pass ticks n times, but at most as often as the loop meant to sleep through. If the loop is later than
// that, the whole process was suspended, and the messages that the others sent meanwhile have not been
// read yet.
func (r *Replica) pass(n int) {
	rest := r.rest()
	if c := &r.core; n > rest+r.cfg.ElectionTick { // for one more tick it reads old messages
		c.heardFrom = c.ticks + uint64(rest) + 2
	}
	for range min(n, rest) {
		r.tick()
	}
}

// nextTick returns when the loop must look at the latest; zero: time stands still.
func (r *Replica) nextTick() time.Time {
	c := &r.core
	switch {
	case !r.ticks():
		c.lastTick = time.Time{}
		return c.lastTick
	case c.lastTick.IsZero():
		c.lastTick = time.Now()
	}
	return c.lastTick.Add(time.Duration(r.rest()) * r.cfg.Tick)
}

// rest returns how many ticks may pass before the loop looks at them. An idle node pays for each wake-up, and
// at most ticks there is nothing to do: a leader must be heard from only every few ticks, and a follower
// counts its leader as silent only after several. Whatever else waits for a tick waits for the next one.
func (r *Replica) rest() int {
	c := &r.core
	switch lead := c.reign.lead; {
	case !r.hasLeader() || c.campaignIn > 0 || len(c.late) > 0 || c.held(),
		len(c.reads) > 0 || len(c.asked.dones) > 0 || c.handOver.under() || len(c.handOver.callers) > 0:
		return 1
	case lead == r.cfg.NodeID:
		return r.cfg.HeartbeatTick - int(c.ticks-c.since)%r.cfg.HeartbeatTick
	default:
		silent := int(c.ticks - c.heard[lead])
		return max(1, r.cfg.ElectionTick-1-silent)
	}
}

// tick advances raft's time by one unit.
func (r *Replica) tick() {
	c := &r.core
	c.ticks++
	c.ticked = true
	r.sendLate()
	r.confirm()
	c.rn.Tick()
	if c.idle++; r.hasLeader() {
		c.idle = 0
	}
	// A node that has no vote, or no longer has one, does not campaign, and would follow a silent
	// leader for ever.
	if lead := c.reign.lead; lead != 0 && lead != r.cfg.NodeID && c.ticks-c.heard[lead] > 2*uint64(r.cfg.ElectionTick) {
		r.forgetLeader()
	}
	if c.campaignIn > 0 {
		if c.campaignIn--; c.campaignIn == 0 && c.rn.BasicStatus().Lead == 0 {
			r.campaign()
		}
	}
}
