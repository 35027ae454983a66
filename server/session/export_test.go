package session

import "time"

// Known is how many sessions the keeper has a deadline of.
func Known(k *Keeper) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.mu.sessions)
}

// Round is one round of Run.
func Round(k *Keeper) { k.expire() }

// End is the stored deadline of a session.
func End(k *Keeper, id int64) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.sessions[id].end
}
