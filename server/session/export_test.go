package session

import "time"

// Known is of how many sessions the keeper has a deadline.
func Known(k *Keeper) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.mu.sessions)
}

// Round is one of Run's.
func Round(k *Keeper) { k.expire() }

// End is the deadline of a session as it is kept.
func End(k *Keeper, id int64) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.sessions[id].end
}
