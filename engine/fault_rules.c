/* SPDX-License-Identifier: BSD-2-Clause */

#include "engine/fault_rules.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/inifile.h"
#include "conf/strbuf.h"

#define ALL_EVENTS ((2U << BD_EXTENTS) - 1)

static const struct {
	const char *name;
	unsigned events;
} events[] = {
	{ "read", 1U << BD_READ },   { "write", 1U << BD_WRITE },
	{ "zero", 1U << BD_ZERO },   { "discard", 1U << BD_DISCARD },
	{ "flush", 1U << BD_FLUSH }, { "extents", 1U << BD_EXTENTS },
	{ "any", ALL_EVENTS },
};

static const struct {
	const char *name;
	int error;
} errors[] = {
	{ "EIO", EIO },	      { "ENODATA", ENODATA },	    { "ENOSPC", ENOSPC },
	{ "EROFS", EROFS },   { "ENOTCONN", ENOTCONN },	    { "EACCES", EACCES },
	{ "ENOMEM", ENOMEM }, { "EOPNOTSUPP", EOPNOTSUPP },
};

static const struct {
	const char *name;
	enum bd_state state;
} states[] = {
	{ "ready", BD_READY },
	{ "away", BD_AWAY },
	{ "refused", BD_REFUSED },
};

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Values: 0, or -EINVAL. */

static int parse_number(const char *value, uint64_t *ret)
{
	char *end;

	if (value[0] < '0' || value[0] > '9')
		return -EINVAL;
	errno = 0;
	*ret = strtoull(value, &end, 0);
	return *end || errno ? -EINVAL : 0;
}

static int parse_bool(const char *value, bool *ret)
{
	if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
		return -EINVAL;
	*ret = value[0] == 'y';
	return 0;
}

static int parse_rate(const char *value, double *ret)
{
	char *end;

	*ret = strtod(value, &end);
	if (end == value)
		return -EINVAL;
	if (strcmp(end, "%") == 0) {
		*ret /= 100;
		end++;
	}
	return *end || !(*ret >= 0 && *ret <= 1) ? -EINVAL : 0;
}

static int parse_event(const char *name, size_t len, unsigned *ret)
{
	size_t i;

	for (i = 0; i < N_OF(events); i++) {
		if (strlen(events[i].name) == len &&
		    strncmp(events[i].name, name, len) == 0) {
			*ret |= events[i].events;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_events(const char *value, unsigned *ret)
{
	int r = 0;

	*ret = 0;
	while (r == 0 && *(value += strspn(value, " ,"))) {
		size_t len = strcspn(value, " ,");

		r = parse_event(value, len, ret);
		value += len;
	}
	return *ret ? r : -EINVAL;
}

static int parse_errno(const char *value, int *ret)
{
	size_t i;

	for (i = 0; i < N_OF(errors); i++) {
		if (strcmp(errors[i].name, value) == 0) {
			*ret = errors[i].error;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_state(const char *value, enum bd_state *ret)
{
	size_t i;

	for (i = 0; i < N_OF(states); i++) {
		if (strcmp(states[i].name, value) == 0) {
			*ret = states[i].state;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_text(const char *value, char *buf, size_t size, bool *ret_has)
{
	*ret_has = true;
	return snprintf(buf, size, "%s", value) >= (int)size ? -EINVAL : 0;
}

static int parse_count(const char *value, struct fault_rule *rule)
{
	return parse_number(value, &rule->left);
}

static int parse_once(const char *value, struct fault_rule *rule)
{
	bool once = false;
	int r = parse_bool(value, &once);

	if (once)
		rule->left = 1;
	return r;
}

static int parse_delay(const char *value, struct fault_rule *rule)
{
	uint64_t ms = 0;
	int r = parse_number(value, &ms);

	if (ms > 3600000)
		return -EINVAL;
	rule->delay_ms = ms;
	return r;
}

/* Keys. */

static int set_device_key(struct fault_rules *rules, const char *key, const char *value)
{
	if (strcmp(key, "state") == 0)
		return parse_state(value, &rules->state);
	if (strcmp(key, "size") == 0)
		return parse_number(value, &rules->size);
	if (strcmp(key, "serial") == 0)
		return parse_text(value, rules->serial, sizeof(rules->serial),
				  &rules->has_serial);
	if (strcmp(key, "wwn") == 0)
		return parse_text(value, rules->wwn, sizeof(rules->wwn), &rules->has_wwn);
	if (strcmp(key, "read_only") == 0)
		return parse_bool(value, &rules->read_only);
	return -ENOENT;
}

static int set_key(struct fault_rules *rules, struct fault_rule *rule, const char *key,
		   const char *value)
{
	if (strcmp(key, "event") == 0)
		return parse_events(value, &rule->events);
	if (strcmp(key, "offset") == 0)
		return parse_number(value, &rule->offset);
	if (strcmp(key, "length") == 0)
		return parse_number(value, &rule->length);
	if (strcmp(key, "count") == 0)
		return parse_count(value, rule);
	if (strcmp(key, "once") == 0)
		return parse_once(value, rule);
	if (strcmp(key, "rate") == 0)
		return parse_rate(value, &rule->rate);
	if (strcmp(key, "seed") == 0)
		return parse_number(value, &rule->random);
	if (strcmp(key, "delay_ms") == 0)
		return parse_delay(value, rule);
	if (strcmp(key, "stall") == 0)
		return parse_bool(value, &rule->stall);
	if (strcmp(key, "errno") == 0)
		return parse_errno(value, &rule->error);
	if (strcmp(key, "after") == 0)
		return parse_bool(value, &rule->after);
	return set_device_key(rules, key, value);
}

struct parsing {
	struct fault_rules *rules;
	const char *path;
	char *error;
	size_t error_size;
};

static int parse_key(void *opaque, const char *section, const char *key,
		     const char *value, unsigned line)
{
	struct parsing *p = opaque;
	struct fault_rules *rules = p->rules;
	int r;

	if (!key) {
		if (rules->n == FAULT_RULES_MAX)
			return -E2BIG;
		rules->rules[rules->n] = (struct fault_rule){ .events = ALL_EVENTS,
							      .length = UINT64_MAX,
							      .left = UINT64_MAX,
							      .rate = 1,
							      .random = 1 };
		snprintf(rules->rules[rules->n++].name, FAULT_RULE_NAME_MAX, "%s",
			 section);
		return 0;
	}
	r = rules->n ? set_key(rules, &rules->rules[rules->n - 1], key, value) : -ENOENT;
	if (r < 0)
		snprintf(p->error, p->error_size, "%s:%u: %s %s = %s", p->path, line,
			 r == -ENOENT ? "there is no key" : "wrong value:", key, value);
	return r < 0 ? -EINVAL : 0;
}

/* Does it do anything to a request? */
static bool is_for_requests(const struct fault_rule *rule)
{
	return rule->error || rule->delay_ms || rule->stall;
}

int fault_rules_parse(const char *path, const char *text, size_t len,
		      struct fault_rules *rules, char *error, size_t error_size)
{
	struct parsing p = { rules, path, error, error_size };
	char sentence[256] = "";
	unsigned line = 0;
	size_t i, n = 0;
	int r;

	memset(rules, 0, sizeof(*rules));
	rules->state = BD_READY;
	error[0] = '\0';
	r = inifile_parse(text, len, parse_key, &p, &line, sentence, sizeof(sentence));
	if (r < 0 && error[0] == '\0')
		snprintf(error, error_size, "%s:%u: %s", path, line,
			 sentence[0] ? sentence : "too many rules");
	if (r < 0)
		return -EINVAL;
	for (i = 0; i < rules->n; i++) {
		/* The all-zero state is the one the generator never leaves. */
		rules->rules[i].random = rules->rules[i].random * 2 + 1;
		if (is_for_requests(&rules->rules[i]))
			rules->rules[n++] = rules->rules[i];
	}
	rules->n = n;
	return 0;
}

static int read_file(const char *path, struct strbuf *text)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	char buf[4096];
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		strbuf_add(text, buf, n);
	if (text->failed)
		return -ENOMEM;
	return n < 0 ? -errno : 0;
}

int fault_rules_load(const char *path, struct fault_rules *rules, char *error,
		     size_t error_size)
{
	CLEANUP_STRBUF struct strbuf text = STRBUF_INIT;
	int r;

	r = read_file(path, &text);
	if (r < 0) {
		snprintf(error, error_size, "%s: cannot read the rules: %s", path,
			 strerror(-r));
		return r;
	}
	return fault_rules_parse(path, text.s, text.len, rules, error, error_size);
}

/* Matching. */

/* xorshift64*, the upper 53 bits as a number below 1. */
static double next_random(struct fault_rule *rule)
{
	rule->random ^= rule->random >> 12;
	rule->random ^= rule->random << 25;
	rule->random ^= rule->random >> 27;
	return (rule->random * UINT64_C(0x2545f4914f6cdd1d) >> 11) * 0x1p-53;
}

static uint64_t end_of(uint64_t offset, uint64_t length)
{
	return length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
}

static bool touches(const struct fault_rule *rule, const struct bd_req *req)
{
	if (!(rule->events & 1U << req->op))
		return false;
	/* A flush has no range. */
	return req->op == BD_FLUSH || (req->offset < end_of(rule->offset, rule->length) &&
				       rule->offset < end_of(req->offset, req->length));
}

struct fault_rule *fault_rules_match(struct fault_rules *rules, const struct bd_req *req)
{
	size_t i;

	for (i = 0; i < rules->n; i++) {
		struct fault_rule *rule = &rules->rules[i];

		if (rule->left == 0 || !touches(rule, req))
			continue;
		if (rule->rate < 1 && next_random(rule) >= rule->rate)
			continue;
		if (rule->left != UINT64_MAX)
			rule->left--;
		rule->n_fired++;
		return rule;
	}
	return NULL;
}

int fault_rule_error(const struct fault_rule *rule, struct bd_req *req)
{
	uint64_t end = end_of(req->offset, req->length);
	uint64_t rule_end = end_of(rule->offset, rule->length);

	if (rule->error == ENODATA && req->op != BD_FLUSH) {
		req->bad_offset = req->offset > rule->offset ? req->offset : rule->offset;
		req->bad_length = (end < rule_end ? end : rule_end) - req->bad_offset;
	}
	return -rule->error;
}

void fault_rules_lie(const struct fault_rules *rules, struct bd_info *info)
{
	if (rules->size)
		info->size = rules->size;
	if (rules->has_serial)
		memcpy(info->serial, rules->serial, sizeof(info->serial));
	if (rules->has_wwn)
		memcpy(info->wwn, rules->wwn, sizeof(info->wwn));
	if (rules->read_only)
		info->read_only = true;
}
