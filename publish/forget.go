package publish

// Forgotten tells that Things were taken out of the directory: a snapshot made
// before is sent to nobody any more. What the feed has published of them stays
// published.
func (p *Publisher) Forgotten() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snaps.forgotten++
	if p.snaps.newest != nil {
		p.snaps.newest.stale = true
	}
}
