package hub

import "quorumhub/hub/hubpb"

func (t *Topic) row() *hubpb.TopicRow {
	return &hubpb.TopicRow{Id: uint64(t.ID), Name: t.Name, First: t.First, Head: t.Head, PublishedAt: nanos(t.PublishedAt),
		Ping: t.Ping, FetchedPing: t.FetchedPing, Etag: t.ETag, LastModified: t.LastModified, ContentHash: t.ContentHash,
		LinkSelf: t.LinkSelf, CreatedAt: nanos(t.CreatedAt), FetchError: t.FetchError, Retention: t.Retention.pb()}
}

func topicFromRow(r *hubpb.TopicRow) *Topic {
	return &Topic{ID: TopicID(r.Id), Name: r.Name, First: r.First, Head: r.Head, PublishedAt: timeOf(r.PublishedAt),
		Ping: r.Ping, FetchedPing: r.FetchedPing, ETag: r.Etag, LastModified: r.LastModified, ContentHash: r.ContentHash,
		LinkSelf: r.LinkSelf, CreatedAt: timeOf(r.CreatedAt), FetchError: r.FetchError, Retention: retentionFromPB(r.Retention)}
}

func (s *Subscription) row() *hubpb.SubscriptionRow {
	return &hubpb.SubscriptionRow{Id: uint64(s.ID), Topic: uint64(s.Topic), TopicRaw: s.TopicRaw, Callback: s.Callback,
		CallbackKey: s.CallbackKey, SealedSecret: s.SealedSecret, Signature: s.Signature, LeaseSeconds: s.LeaseSeconds,
		ExpiresAt: nanos(s.ExpiresAt), CreatedAt: nanos(s.CreatedAt), RenewedAt: nanos(s.RenewedAt),
		Node: s.Assignment.Node, Epoch: s.Assignment.Epoch, NextNode: s.Assignment.Next, Rewound: s.Assignment.Rewound, Paused: s.Paused,
		Extra: extraPB(s.Extra), Scheme: s.Scheme, FormerSecrets: formerPB(s.Former)}
}

func subscriptionFromRow(r *hubpb.SubscriptionRow) *Subscription {
	return &Subscription{ID: SubscriptionID(r.Id), Topic: TopicID(r.Topic), TopicRaw: r.TopicRaw, Callback: r.Callback,
		CallbackKey: r.CallbackKey, SealedSecret: r.SealedSecret, Signature: r.Signature, LeaseSeconds: r.LeaseSeconds,
		ExpiresAt: timeOf(r.ExpiresAt), CreatedAt: timeOf(r.CreatedAt), RenewedAt: timeOf(r.RenewedAt),
		Assignment: Assignment{Node: r.Node, Epoch: r.Epoch, Next: r.NextNode, Rewound: r.Rewound}, Paused: r.Paused, Extra: extraFromPB(r.Extra),
		Scheme: r.Scheme, Former: formerFromPB(r.FormerSecrets)}
}

func (c *Cursor) row(id uint64) *hubpb.CursorRow {
	return &hubpb.CursorRow{Gap: c.Gap, DeadLetters: c.DeadLetters, Cursor: &hubpb.Cursor{Subscription: id, Offset: c.Offset,
		Attempts: c.Attempts, Refused: c.Refused, FailingSince: c.FailingSince, Delivered: c.Delivered, Failures: c.Failures}}
}

func cursorFromRow(r *hubpb.CursorRow) Cursor {
	c := r.GetCursor()
	return Cursor{Offset: c.GetOffset(), Attempts: c.GetAttempts(), Refused: c.GetRefused(), FailingSince: c.GetFailingSince(),
		Delivered: c.GetDelivered(), Failures: c.GetFailures(), Gap: r.Gap, DeadLetters: r.DeadLetters}
}

func (r *Request) row() *hubpb.RequestRow {
	return &hubpb.RequestRow{Id: uint64(r.ID), RequestedAt: nanos(r.RequestedAt), Reason: r.Reason,
		Request: &hubpb.SubscriptionRequested{Mode: r.Mode, Topic: r.TopicName, TopicRaw: r.TopicRaw, Callback: r.Callback,
			CallbackKey: r.CallbackKey, LeaseSeconds: r.LeaseSeconds, SealedSecret: r.SealedSecret, Signature: r.Signature,
			VerifyToken: r.VerifyToken, AutoRegister: r.AutoRegister, Options: optionsPB(r.Start), Extra: extraPB(r.Extra),
			Scheme: r.Scheme, SecretGrace: r.SecretGrace}}
}

func requestFromRow(r *hubpb.RequestRow) *Request {
	q := r.GetRequest()
	return &Request{ID: RequestID(r.Id), RequestedAt: timeOf(r.RequestedAt), Reason: r.Reason, Mode: q.GetMode(),
		TopicName: q.GetTopic(), TopicRaw: q.GetTopicRaw(), Callback: q.GetCallback(), CallbackKey: q.GetCallbackKey(),
		LeaseSeconds: q.GetLeaseSeconds(), SealedSecret: q.GetSealedSecret(), Signature: q.GetSignature(),
		VerifyToken: q.GetVerifyToken(), AutoRegister: q.GetAutoRegister(), Start: q.GetOptions().GetStart(), Extra: extraFromPB(q.GetExtra()),
		Scheme: q.GetScheme(), SecretGrace: q.GetSecretGrace()}
}

// optionsPB is nil when all is as the hub does by default, so that most rows hold nothing of it.
func optionsPB(start string) *hubpb.SubscriptionOptions {
	if start == "" {
		return nil
	}
	return &hubpb.SubscriptionOptions{Start: start}
}
