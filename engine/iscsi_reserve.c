/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * A reservation for the time of a copy (bd_reserve), in steps like those of a
 * login: they follow an identification, in any ready session.
 *
 *   TAKE     READ KEYS (a foreign key: -EBUSY), REPORT CAPABILITIES, REGISTER AND
 *            IGNORE EXISTING KEY, READ RESERVATION; RESERVE if nobody holds it, and
 *            READ RESERVATION again, which proves it
 *   CHECK    READ RESERVATION: our key, type Write Exclusive
 *   RELEASE  READ KEYS (ours is not there: done), REGISTER this session, which may
 *            be another one than that which took it; then CLEAR where only our key
 *            is registered, else PREEMPT our own key, which makes this session the
 *            holder, RELEASE, and unregister
 *
 * While something is held each login and each check of a session ends with READ
 * RESERVATION.  The other sessions only read, which this type lets everybody do.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "engine/bd_iscsi.h"
#include "engine/iscsi_login.h"

enum { RESERVE_TRIES = 4 };

/* The end of the steps; fmt: why, of an error. */
static enum step end(struct iscsi_session *s, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static enum step end(struct iscsi_session *s, int error, const char *fmt, ...)
{
	struct bd_reserve *r = s->reserve;
	va_list ap;

	s->reserve = NULL;
	if (r && error) {
		va_start(ap, fmt);
		vsnprintf(r->error, sizeof(r->error), fmt, ap);
		va_end(ap);
	}
	if (s->state == ISCSI_RELEASING)
		return STEP_RELEASED;
	if (r)
		bd_iscsi_reserved(s->device, r, error);
	else if (error)
		bd_iscsi_hold_lost(s->device);
	return STEP_DONE;
}

static enum step end_outcome(struct iscsi_session *s, int error, const struct answer *a)
{
	char text[64];

	scsi_describe(a->outcome, text, sizeof(text));
	return end(s, error, "%s: %s", iscsi_reserve_steps[s->step - STEP_HOLD_KEYS].what,
		   text);
}

static bool takes(const struct iscsi_session *s)
{
	return s->reserve && s->reserve->op == BD_RESERVE_TAKE;
}

enum step iscsi_reserve_first(struct iscsi_session *s)
{
	s->reserve = bd_iscsi_reserving(s->device, s);
	s->reserve_tries = 0;
	s->reserve_key = s->reserve ? s->reserve->key : bd_iscsi_hold_key(s->device);
	if (takes(s))
		return STEP_HOLD_KEYS;
	if (s->reserve && s->reserve->op == BD_RESERVE_RELEASE)
		return STEP_FREE_KEYS;
	return s->reserve_key ? STEP_HOLD_LOOK : STEP_DONE;
}

enum step iscsi_reserve_last(struct iscsi_session *s)
{
	s->reserve = NULL;
	s->reserve_key = bd_iscsi_hold_key(s->device);
	return s->reserve_key ? STEP_FREE_KEYS : STEP_RELEASED;
}

/* ---- TAKE, CHECK -------------------------------------------------------------------- */

static void make_keys(struct iscsi_session *s, struct scsi_command *c)
{
	(void)s;
	scsi_make_pr_in(c, SCSI_PR_READ_KEYS, 8 + 8 * 512);
}

static enum step answer_keys(struct iscsi_session *s, const struct answer *a)
{
	uint64_t foreign;

	if (a->outcome->verdict == SCSI_UNSUPPORTED)
		return end(s, -EOPNOTSUPP, "the target has no persistent reservations");
	if (!iscsi_login_is_done(a))
		return end_outcome(s, -EIO, a);
	if (scsi_parse_keys(a->data, a->len, s->reserve_key, &foreign) < 0)
		return end(s, -EIO, "READ KEYS: the answer is too short");
	if (foreign)
		return end(s, -EBUSY,
			   "another host has registered the reservation key 0x%016" PRIx64
			   "; end that there first",
			   foreign);
	return STEP_HOLD_CAPABILITIES;
}

static void make_capabilities(struct iscsi_session *s, struct scsi_command *c)
{
	(void)s;
	scsi_make_pr_in(c, SCSI_PR_REPORT_CAPABILITIES, 8);
}

static enum step answer_capabilities(struct iscsi_session *s, const struct answer *a)
{
	s->aptpl = false;
	if (iscsi_login_is_done(a))
		scsi_parse_pr_capabilities(a->data, a->len, &s->aptpl);
	return STEP_HOLD_REGISTER;
}

static void make_pr_out(struct iscsi_session *s, struct scsi_command *c,
			enum scsi_pr_out action, uint64_t key, uint64_t action_key,
			bool aptpl)
{
	scsi_make_pr_out(c, s->login_cmd.param, action, SCSI_PR_WRITE_EXCLUSIVE, key,
			 action_key, aptpl);
}

static void make_register(struct iscsi_session *s, struct scsi_command *c)
{
	make_pr_out(s, c, SCSI_PR_REGISTER_AND_IGNORE, 0, s->reserve_key,
		    s->aptpl && s->step == STEP_HOLD_REGISTER);
}

static enum step answer_register(struct iscsi_session *s, const struct answer *a)
{
	if (iscsi_login_is_done(a))
		return STEP_HOLD_LOOK;
	if (a->outcome->verdict != SCSI_UNSUPPORTED)
		return end_outcome(s, -EIO, a);
	if (s->step == STEP_HOLD_REGISTER && s->aptpl)
		return STEP_HOLD_REGISTER_PLAIN;
	return end(s, -EOPNOTSUPP, "the target has no persistent reservations");
}

static void make_look(struct iscsi_session *s, struct scsi_command *c)
{
	(void)s;
	scsi_make_pr_in(c, SCSI_PR_READ_RESERVATION, 24);
}

static enum step answer_look(struct iscsi_session *s, const struct answer *a)
{
	int error = takes(s) ? -EBUSY : -ESTALE;
	uint64_t key = 0;
	uint8_t type = 0;
	bool held;

	if (!iscsi_login_is_done(a))
		return end_outcome(s, -EIO, a);
	if (scsi_parse_reservation(a->data, a->len, &held, &key, &type) < 0)
		return end(s, -EIO, "READ RESERVATION: the answer is too short");
	if (held && key == s->reserve_key && type == SCSI_PR_WRITE_EXCLUSIVE)
		return end(s, 0, "none");
	if (held)
		return end(s, error,
			   "another host has reserved it, with the key 0x%016" PRIx64
			   ", type %u",
			   key, type);
	if (takes(s) && s->reserve_tries++ < RESERVE_TRIES)
		return STEP_HOLD_RESERVE;
	return end(s, error,
		   takes(s) ? "the reservation does not last" :
			      "the reservation is gone: the target has forgotten it, or "
			      "another host has taken it away");
}

static void make_reserve(struct iscsi_session *s, struct scsi_command *c)
{
	make_pr_out(s, c, SCSI_PR_RESERVE, s->reserve_key, 0, false);
}

static enum step answer_reserve(struct iscsi_session *s, const struct answer *a)
{
	/* A conflict: who holds it tells. */
	if (iscsi_login_is_done(a) || a->outcome->status == SCSI_RESERVATION_CONFLICT)
		return STEP_HOLD_LOOK;
	return end_outcome(s, -EIO, a);
}

/* ---- RELEASE ------------------------------------------------------------------------- */

static enum step answer_free_keys(struct iscsi_session *s, const struct answer *a)
{
	uint64_t foreign = 1;

	if (a->outcome->verdict == SCSI_UNSUPPORTED)
		return end(s, 0, "none");
	if (!iscsi_login_is_done(a))
		return end_outcome(s, -EIO, a);
	if (!scsi_has_key(a->data, a->len, s->reserve_key))
		return end(s, 0, "none");
	scsi_parse_keys(a->data, a->len, s->reserve_key, &foreign);
	s->foreign_keys = foreign;
	return STEP_FREE_REGISTER;
}

static enum step answer_free_register(struct iscsi_session *s, const struct answer *a)
{
	if (!iscsi_login_is_done(a))
		return end_outcome(s, -EIO, a);
	return s->foreign_keys ? STEP_FREE_PREEMPT : STEP_FREE_CLEAR;
}

static void make_clear(struct iscsi_session *s, struct scsi_command *c)
{
	make_pr_out(s, c, SCSI_PR_CLEAR, s->reserve_key, 0, false);
}

static void make_preempt(struct iscsi_session *s, struct scsi_command *c)
{
	make_pr_out(s, c, SCSI_PR_PREEMPT, s->reserve_key, s->reserve_key, false);
}

static enum step answer_preempt(struct iscsi_session *s, const struct answer *a)
{
	(void)s;
	(void)a;
	return STEP_FREE_RELEASE;
}

static void make_release(struct iscsi_session *s, struct scsi_command *c)
{
	make_pr_out(s, c, SCSI_PR_RELEASE, s->reserve_key, 0, false);
}

static enum step answer_release(struct iscsi_session *s, const struct answer *a)
{
	(void)s;
	(void)a;
	return STEP_FREE_UNREGISTER;
}

static void make_unregister(struct iscsi_session *s, struct scsi_command *c)
{
	make_pr_out(s, c, SCSI_PR_REGISTER, s->reserve_key, 0, false);
}

static enum step answer_freed(struct iscsi_session *s, const struct answer *a)
{
	return iscsi_login_is_done(a) ? end(s, 0, "none") : end_outcome(s, -EIO, a);
}

#define STEP(step) [STEP_##step - STEP_HOLD_KEYS]

const struct step_ops iscsi_reserve_steps[] = {
	STEP(HOLD_KEYS) = { "READ KEYS", make_keys, answer_keys },
	STEP(HOLD_CAPABILITIES) = { "REPORT CAPABILITIES", make_capabilities,
				    answer_capabilities },
	STEP(HOLD_REGISTER) = { "REGISTER", make_register, answer_register },
	STEP(HOLD_REGISTER_PLAIN) = { "REGISTER", make_register, answer_register },
	STEP(HOLD_LOOK) = { "READ RESERVATION", make_look, answer_look },
	STEP(HOLD_RESERVE) = { "RESERVE", make_reserve, answer_reserve },
	STEP(FREE_KEYS) = { "READ KEYS", make_keys, answer_free_keys },
	STEP(FREE_REGISTER) = { "REGISTER", make_register, answer_free_register },
	STEP(FREE_CLEAR) = { "CLEAR", make_clear, answer_freed },
	STEP(FREE_PREEMPT) = { "PREEMPT", make_preempt, answer_preempt },
	STEP(FREE_RELEASE) = { "RELEASE", make_release, answer_release },
	STEP(FREE_UNREGISTER) = { "REGISTER", make_unregister, answer_freed },
};
_Static_assert(sizeof(iscsi_reserve_steps) / sizeof(iscsi_reserve_steps[0]) ==
		       STEP_END - STEP_HOLD_KEYS,
	       "a row for each step");
