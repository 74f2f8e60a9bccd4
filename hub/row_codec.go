package hub

import "quorumhub/hub/hubpb"

func (t *Topic) row() *hubpb.TopicRow {
	return &hubpb.TopicRow{Id: uint64(t.ID), Name: t.Name, First: t.First, Head: t.Head, PublishedAt: nanos(t.PublishedAt),
		Ping: t.Ping, FetchedPing: t.FetchedPing, Etag: t.ETag, LastModified: t.LastModified, ContentHash: t.ContentHash,
		LinkSelf: t.LinkSelf, CreatedAt: nanos(t.CreatedAt), FetchError: t.FetchError, Retention: t.Retention.pb(),
		Owner: t.Owner, Provisional: t.Provisional, Lifecycle: t.Lifecycle.pb(), Content: t.Content.pb(), Stored: t.stored.row()}
}

func topicFromRow(r *hubpb.TopicRow) *Topic {
	return &Topic{ID: TopicID(r.Id), Name: r.Name, First: r.First, Head: r.Head, PublishedAt: timeOf(r.PublishedAt),
		Ping: r.Ping, FetchedPing: r.FetchedPing, ETag: r.Etag, LastModified: r.LastModified, ContentHash: r.ContentHash,
		LinkSelf: r.LinkSelf, CreatedAt: timeOf(r.CreatedAt), FetchError: r.FetchError, Retention: retentionFromPB(r.Retention),
		Owner: shared(r.Owner), Provisional: r.Provisional, Lifecycle: lifecycleFromPB(r.Lifecycle), Content: contentFromPB(r.Content), stored: storedFromRow(r.Stored)}
}

func (s *Subscription) row() *hubpb.SubscriptionRow {
	r := &hubpb.SubscriptionRow{Id: uint64(s.ID), Topic: uint64(s.Topic), TopicRaw: s.TopicRaw, Callback: s.Callback,
		CallbackKey: s.CallbackKey, SealedSecret: s.SealedSecret, Signature: s.Signature, OperatorSignature: s.OperatorSignature, LeaseSeconds: s.LeaseSeconds,
		ExpiresAt: nanos(s.ExpiresAt), CreatedAt: s.created, RenewedAt: nanos(s.RenewedAt),
		Node: s.Assignment.Node, Epoch: s.Assignment.Epoch, NextNode: s.Assignment.Next, Rewound: s.Assignment.Rewound, Paused: s.Paused, Group: uint64(s.Group),
		Extra: extraPB(s.Extra), Scheme: s.Scheme, FormerSecrets: formerPB(s.Former), Owner: s.Owner, PauseReason: s.PauseReason,
		SealedHeaders: bytesOf(s.SealedHeaders), EncryptionKey: s.EncryptionKey, KeyNotice: uint32(s.KeyNotice)}
	if s.Options != nil {
		r.Options = s.Options.pb("")
	}
	return r
}

func subscriptionFromRow(r *hubpb.SubscriptionRow) *Subscription {
	return &Subscription{ID: SubscriptionID(r.Id), Topic: TopicID(r.Topic), TopicRaw: r.TopicRaw, Callback: r.Callback,
		CallbackKey: r.CallbackKey, SealedSecret: r.SealedSecret, Signature: r.Signature, OperatorSignature: r.OperatorSignature, LeaseSeconds: r.LeaseSeconds,
		ExpiresAt: timeOf(r.ExpiresAt), created: r.CreatedAt, RenewedAt: timeOf(r.RenewedAt),
		Assignment: Assignment{Node: r.Node, Epoch: r.Epoch, Next: r.NextNode, Rewound: r.Rewound}, Paused: r.Paused, Group: GroupID(r.Group),
		Options: optionsFromPB(r.Options).shared(), Extra: extraFromPB(r.Extra),
		Scheme: r.Scheme, Former: formerFromPB(r.FormerSecrets), Owner: shared(r.Owner), PauseReason: r.PauseReason,
		SealedHeaders: string(r.SealedHeaders), EncryptionKey: shared(r.EncryptionKey), KeyNotice: KeyNotice(r.KeyNotice)}
}

func (r *Request) row() *hubpb.RequestRow {
	return &hubpb.RequestRow{Id: uint64(r.ID), RequestedAt: nanos(r.RequestedAt), Reason: r.Reason, Request: r.event()}
}

// event returns the event that recorded the request, or nil for no request.
func (r *Request) event() *hubpb.SubscriptionRequested {
	if r == nil {
		return nil
	}
	return &hubpb.SubscriptionRequested{Mode: r.Mode, Topic: r.TopicName, TopicRaw: r.TopicRaw, Callback: r.Callback,
		CallbackKey: r.CallbackKey, LeaseSeconds: r.LeaseSeconds, SealedSecret: r.SealedSecret, Signature: r.Signature,
		VerifyToken: r.VerifyToken, AutoRegister: r.AutoRegister, Options: r.Options.pb(r.Start), Extra: extraPB(r.Extra),
		Scheme: r.Scheme, SecretGrace: r.SecretGrace, Caller: r.caller, SealedHeaders: bytesOf(r.SealedHeaders),
		EncryptionKey: r.EncryptionKey}
}

func requestFromRow(r *hubpb.RequestRow) *Request {
	q := r.GetRequest()
	return &Request{ID: RequestID(r.Id), RequestedAt: timeOf(r.RequestedAt), Reason: r.Reason, Mode: q.GetMode(),
		TopicName: q.GetTopic(), TopicRaw: q.GetTopicRaw(), Callback: q.GetCallback(), CallbackKey: q.GetCallbackKey(),
		LeaseSeconds: q.GetLeaseSeconds(), SealedSecret: q.GetSealedSecret(), Signature: q.GetSignature(),
		VerifyToken: q.GetVerifyToken(), AutoRegister: q.GetAutoRegister(), Start: q.GetOptions().GetStart(), Options: optionsFromPB(q.GetOptions()),
		Extra: extraFromPB(q.GetExtra()), Scheme: q.GetScheme(), SecretGrace: q.GetSecretGrace(),
		Owner: q.GetCaller().GetPrincipal(), caller: q.GetCaller(), SealedHeaders: string(q.GetSealedHeaders()),
		EncryptionKey: shared(q.GetEncryptionKey())}
}

// bytesOf is nil for an empty string, so that absent and empty are stored alike.
func bytesOf(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}
