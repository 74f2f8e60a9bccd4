package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
)

func TestDeliveryOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		form []string
		want hub.Options
	}{
		"none":                {nil, hub.Options{}},
		"unknown ones":        {[]string{"hub.window", "x", "hub.delivery", "y", "window", "0"}, hub.Options{}},
		"ordered":             {[]string{"hub.delivery_mode", "ordered"}, hub.Options{}},
		"ordered, one":        {[]string{"hub.delivery_mode", "ordered", "hub.delivery_window", "1"}, hub.Options{}},
		"parallel":            {[]string{"hub.delivery_mode", "parallel"}, hub.Options{Mode: hub.DeliveryParallel, Window: 16}},
		"a window":            {[]string{"hub.delivery_window", "1024"}, hub.Options{Mode: hub.DeliveryParallel, Window: 1024}},
		"parallel, one":       {[]string{"hub.delivery_mode", "parallel", "hub.delivery_window", "1"}, hub.Options{Mode: hub.DeliveryParallel, Window: 1}},
		"a header":            {[]string{"hub.delivery_key", "header:x-hub-key"}, hub.Options{Mode: hub.DeliveryKeyed, Window: 16, Key: "header:X-Hub-Key"}},
		"a pointer":           {[]string{"hub.delivery_mode", "keyed", "hub.delivery_key", "json:/a~1b/0", "hub.delivery_window", "4"}, hub.Options{Mode: hub.DeliveryKeyed, Window: 4, Key: "json:/a~1b/0"}},
		"the whole body":      {[]string{"hub.delivery_key", "json:"}, hub.Options{Mode: hub.DeliveryKeyed, Window: 16, Key: "json:"}},
		"a group":             {[]string{"hub.consumer_group", "billing"}, hub.Options{Group: "billing"}},
		"Kafka's name":        {[]string{"consumerGroup", "billing"}, hub.Options{Group: "billing"}},
		"both names":          {[]string{"consumerGroup", "billing", "hub.consumer_group", "billing"}, hub.Options{Group: "billing"}},
		"Kafka's empty group": {[]string{"consumerGroup", ""}, hub.Options{}},
		"a rate":              {[]string{"hub.rate", "0.5"}, hub.Options{Rate: 0.5}},
		"retries": {[]string{"hub.retry.max_attempts", "3", "hub.retry.refused_attempts", "2", "hub.retry.max_age", "60", "hub.retry.max_interval", "5"},
			hub.Options{MaxAttempts: 3, RefusedAttempts: 2, MaxAge: time.Minute, MaxInterval: 5 * time.Second}},
		"a schedule": {[]string{"hub.retry.schedule", "5, 300,086400"}, hub.Options{Schedule: "5,300,86400"}},
		"16 waits":   {[]string{"hub.retry.schedule", strings.Repeat("1,", 15) + "2"}, hub.Options{Schedule: strings.Repeat("1,", 15) + "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := hub.ParseSubscribe(subscribeForm(tc.form...), namer(t), leases)
			if err != nil || r.Options != tc.want {
				t.Errorf("got %+v (%v), want %+v", r, err, tc.want)
			}
			unsubscribe := subscribeForm(tc.form...)
			unsubscribe.Set("hub.mode", "unsubscribe")
			if r, err := hub.ParseSubscribe(unsubscribe, namer(t), leases); err != nil || r.Options != (hub.Options{}) {
				t.Errorf("unsubscribe: %+v (%v)", r, err)
			}
		})
	}
}

func TestInvalidDeliveryOptions(t *testing.T) {
	for _, tc := range []struct {
		param, says string
		form        []string
	}{
		{"hub.delivery_mode", "expected ordered, parallel or keyed", []string{"hub.delivery_mode", "random"}},
		{"hub.delivery_mode", "expected ordered, parallel or keyed", []string{"hub.delivery_mode", ""}},
		{"hub.delivery_window", "from 1 to 1024", []string{"hub.delivery_window", "0"}},
		{"hub.delivery_window", "from 1 to 1024", []string{"hub.delivery_window", "1025"}},
		{"hub.delivery_window", "from 1 to 1024", []string{"hub.delivery_window", "+5"}},
		{"hub.delivery_window", "from 1 to 1024", []string{"hub.delivery_window", "many"}},
		{"hub.delivery_window", "from 1 to 1024", []string{"hub.delivery_window", ""}},
		{"hub.delivery_window", "one message in flight", []string{"hub.delivery_mode", "ordered", "hub.delivery_window", "2"}},
		{"hub.delivery_key", "is missing", []string{"hub.delivery_mode", "keyed"}},
		{"hub.delivery_key", "requires hub.delivery_mode=keyed", []string{"hub.delivery_mode", "parallel", "hub.delivery_key", "json:/a"}},
		{"hub.delivery_key", "expected header:<Name>", []string{"hub.delivery_key", "a"}},
		{"hub.delivery_key", "expected header:<Name>", []string{"hub.delivery_key", "header:"}},
		{"hub.delivery_key", "json:<JSON pointer>", []string{"hub.delivery_key", "json:a"}},
		{"hub.delivery_key", "json:<JSON pointer>", []string{"hub.delivery_key", "json:/a~2"}},
		{"hub.delivery_key", "at most 256", []string{"hub.delivery_key", "json:/" + strings.Repeat("a", 300)}},
		{"hub.consumer_group", "1 to 128 bytes", []string{"hub.consumer_group", ""}},
		{"hub.consumer_group", "without spaces", []string{"consumerGroup", "a b"}},
		{"hub.consumer_group", "expected one group", []string{"hub.consumer_group", "a", "consumerGroup", "b"}},
		{"hub.rate", "from 0.001 to 100000", []string{"hub.rate", "0"}},
		{"hub.rate", "from 0.001 to 100000", []string{"hub.rate", "NaN"}},
		{"hub.rate", "from 0.001 to 100000", []string{"hub.rate", "1e9"}},
		{"hub.retry.max_attempts", "from 1 to 10000", []string{"hub.retry.max_attempts", "0"}},
		{"hub.retry.refused_attempts", "from 1 to 10000", []string{"hub.retry.refused_attempts", "-1"}},
		{"hub.retry.max_age", "seconds from 1 to 2592000", []string{"hub.retry.max_age", "1d"}},
		{"hub.retry.max_interval", "seconds from 1 to 86400", []string{"hub.retry.max_interval", "99999999"}},
		{"hub.retry.schedule", "up to 16 waits in seconds from 1 to 86400", []string{"hub.retry.schedule", ""}},
		{"hub.retry.schedule", "up to 16 waits", []string{"hub.retry.schedule", "5,,6"}},
		{"hub.retry.schedule", "up to 16 waits", []string{"hub.retry.schedule", "5,0"}},
		{"hub.retry.schedule", "up to 16 waits", []string{"hub.retry.schedule", "86401"}},
		{"hub.retry.schedule", "up to 16 waits", []string{"hub.retry.schedule", "5s"}},
		{"hub.retry.schedule", "up to 16 waits", []string{"hub.retry.schedule", strings.Repeat("1,", 16) + "2"}},
		{"hub.retry.schedule", "excludes hub.retry.max_interval", []string{"hub.retry.schedule", "5,300", "hub.retry.max_interval", "60"}},
	} {
		_, err := hub.ParseSubscribe(subscribeForm(tc.form...), namer(t), leases)
		wantParam(t, err, tc.param)
		if !strings.Contains(fmt.Sprint(err), tc.says) {
			t.Errorf("%v: %v does not contain %q", tc.form, err, tc.says)
		}
	}
}
