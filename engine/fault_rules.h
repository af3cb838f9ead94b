/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_FAULT_RULES_H
#define LUNFS_FAULT_RULES_H

/*
 * The rules of the back end `fault:RULES:URL`, read from the INI file RULES.
 * Each section is a rule of a free name; all keys are optional:
 *
 *   event = read write zero discard flush extents any   which requests; any
 *   offset, length   bytes; only requests that touch the range; all
 *   once = yes       fires one time; or
 *   count = N        N times; else always
 *   rate = 0.1, 10%  fires with that probability
 *   seed = N         of its random numbers; 1
 *   delay_ms = N     the request waits first
 *   stall = yes      the request waits until the rule is gone (no count, rate
 *                    or delay with it)
 *   errno = EIO, ENODATA, ENOSPC, ENOTCONN, EROFS, EACCES, EOPNOTSUPP, ENOMEM
 *                    its answer; without: it is carried out
 *   after = yes      it is carried out and answered with the error all the same
 *   state = away, refused, ready   of the device; away and refused answer all
 *                    requests with ENOTCONN, ready again is a new login
 *   size, serial, wwn, read_only   what the device says of itself from its next
 *                    login on
 *
 * The first rule of the file that touches a request and fires decides.  A file
 * that is not there has no rules.  When it changes (by rename, best: a file
 * that is half written has half the rules) it is read anew, and counts start
 * again.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/blockdev.h"

enum { FAULT_RULES_MAX = 64, FAULT_RULE_NAME_MAX = 50 };

struct fault_rule {
	char name[FAULT_RULE_NAME_MAX];
	unsigned events; /* a bit for each enum bd_op */
	uint64_t offset;
	uint64_t length;
	uint64_t left; /* times that it will fire */
	double rate;
	uint64_t random;
	unsigned delay_ms;
	int error; /* positive; 0 = none */
	bool stall;
	bool after;
	uint64_t n_fired;
};

struct fault_rules {
	struct fault_rule rules[FAULT_RULES_MAX];
	size_t n;
	enum bd_state state; /* BD_READY, BD_AWAY, BD_REFUSED */
	uint64_t size;	     /* 0 = the true one */
	bool has_serial, has_wwn, read_only;
	char serial[sizeof(((struct bd_info *)0)->serial)];
	char wwn[sizeof(((struct bd_info *)0)->wwn)];
};

/* -EINVAL with a sentence that names path and line; *rules is then undefined. */
int fault_rules_parse(const char *path, const char *text, size_t len,
		      struct fault_rules *rules, char *error, size_t error_size);

/* Reads the file; one that is not there is empty. */
int fault_rules_load(const char *path, struct fault_rules *rules, char *error,
		     size_t error_size);

/* The rule that fires for a request, counted, or NULL. */
struct fault_rule *fault_rules_match(struct fault_rules *rules, const struct bd_req *req);

/* Answers -rule->error; for ENODATA with the range that the rule and the
 * request share. */
int fault_rule_error(const struct fault_rule *rule, struct bd_req *req);

/* What the device says of itself, changed as the rules want. */
void fault_rules_lie(const struct fault_rules *rules, struct bd_info *info);

#endif
