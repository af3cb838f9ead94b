/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * What follows a login: who is there, and may it be used?  A table of steps,
 * one SCSI command each; a step's answer() says which one is next.  A command
 * that meets a unit attention or BUSY is sent again; the deadline of the
 * session's state bounds it all.
 *
 *   TEST UNIT READY, INQUIRY, VPD 00 80 83 B0 B2 (those that page 00 names),
 *   READ CAPACITY(16) or (10), MODE SENSE
 *   -> bd_iscsi_identify(): the owner's word, or a comparison
 *   and with a reservation key (SPC-4 5.13, type Write Exclusive - Registrants
 *   Only): READ KEYS (a foreign key: refused), REPORT CAPABILITIES, REGISTER
 *   AND IGNORE EXISTING KEY, READ RESERVATION; RESERVE if nobody holds it, and
 *   READ RESERVATION again, which proves it.
 *
 * The registration is the session's (its initiator port), so each session does
 * all this before its first write.  A target without persistent reservations
 * is used unreserved.  A device without a key may be reserved for a while:
 * iscsi_reserve.c.  Giving it up: READ KEYS; CLEAR where only our key is
 * registered (it also removes what lost sessions left behind), else RELEASE and
 * unregister.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/bd_iscsi.h"
#include "engine/iscsi_login.h"
#include "engine/iscsi_session.h"

enum {
	MAX_TRANSFER = 1 << 20, /* bytes */
	OPT_TRANSFER = 256 << 10,
	/* Several are under way in any case, and each costs a command, its R2T and an answer. */
	OPT_COPY = MAX_TRANSFER,
	MAX_UNIT_ATTENTIONS = 30,
	RESERVE_TRIES = 4,
};

static const struct step_ops steps[];

static const struct step_ops *ops_of(unsigned step)
{
	return step < STEP_HOLD_KEYS ? &steps[step] :
				       &iscsi_reserve_steps[step - STEP_HOLD_KEYS];
}

static enum step refuse(struct iscsi_session *s, enum iscsi_fault fault,
			const char *reason)
{
	iscsi_session_fail(s, fault, "%s of LUN %u of %s: %s", ops_of(s->step)->what,
			   s->set->lun, s->set->target, reason);
	return STEP_STOP;
}

static enum step refuse_outcome(struct iscsi_session *s, enum iscsi_fault fault,
				const struct scsi_outcome *outcome)
{
	char text[64];

	scsi_describe(outcome, text, sizeof(text));
	return refuse(s, fault, text);
}

/* Identification. */

static void make_unit_ready(struct iscsi_session *s, struct scsi_command *c)
{
	(void)s;
	scsi_make_test_unit_ready(c);
}

static enum step answer_unit_ready(struct iscsi_session *s, const struct answer *a)
{
	/* Someone's reservation does not keep us from looking. */
	if (iscsi_login_is_done(a) || a->outcome->status == SCSI_RESERVATION_CONFLICT)
		return STEP_INQUIRY;
	return refuse_outcome(s, ISCSI_LOST, a->outcome);
}

static void make_inquiry(struct iscsi_session *s, struct scsi_command *c)
{
	static const int pages[] = {
		[STEP_INQUIRY] = SCSI_NO_VPD,
		[STEP_VPD_PAGES] = SCSI_VPD_SUPPORTED_PAGES,
		[STEP_SERIAL] = SCSI_VPD_SERIAL,
		[STEP_WWN] = SCSI_VPD_IDENTIFICATION,
		[STEP_LIMITS] = SCSI_VPD_BLOCK_LIMITS,
		[STEP_PROVISIONING] = SCSI_VPD_PROVISIONING,
	};

	/* Old devices take an allocation length of one byte only. */
	scsi_make_inquiry(c, pages[s->step], s->step == STEP_INQUIRY ? 96 : 252);
}

static enum step answer_inquiry(struct iscsi_session *s, const struct answer *a)
{
	struct scsi_identity id;
	struct bd_info *info = &s->found.info;
	char text[64];

	if (!iscsi_login_is_done(a))
		return refuse_outcome(s, ISCSI_LOST, a->outcome);
	if (scsi_parse_inquiry(a->data, a->len, &id) < 0)
		return refuse(s, ISCSI_LOST, "the answer is too short");
	if (id.qualifier != 0)
		return refuse(s, ISCSI_NOT_THERE, "there is no such LUN");
	if (id.device_type != 0) {
		snprintf(text, sizeof(text), "it is no disk (device type 0x%02x)",
			 id.device_type);
		return refuse(s, ISCSI_REFUSED, text);
	}
	memcpy(info->vendor, id.vendor, sizeof(info->vendor));
	memcpy(info->product, id.product, sizeof(info->product));
	memcpy(info->revision, id.revision, sizeof(info->revision));
	return STEP_VPD_PAGES;
}

/* The first page at or after `from` that the device has. */
static enum step next_page(const struct iscsi_session *s, enum step from)
{
	if (from <= STEP_SERIAL && s->found.has_serial)
		return STEP_SERIAL;
	if (from <= STEP_WWN && s->found.has_wwn)
		return STEP_WWN;
	if (from <= STEP_LIMITS && s->found.has_limits)
		return STEP_LIMITS;
	if (from <= STEP_PROVISIONING && s->found.has_provisioning)
		return STEP_PROVISIONING;
	return STEP_CAPACITY16;
}

static enum step answer_vpd_pages(struct iscsi_session *s, const struct answer *a)
{
	if (iscsi_login_is_done(a)) {
		s->found.has_serial = scsi_has_page(a->data, a->len, SCSI_VPD_SERIAL);
		s->found.has_wwn =
			scsi_has_page(a->data, a->len, SCSI_VPD_IDENTIFICATION);
		s->found.has_limits =
			scsi_has_page(a->data, a->len, SCSI_VPD_BLOCK_LIMITS);
		s->found.has_provisioning =
			scsi_has_page(a->data, a->len, SCSI_VPD_PROVISIONING);
	}
	return next_page(s, STEP_SERIAL);
}

static enum step answer_serial(struct iscsi_session *s, const struct answer *a)
{
	if (iscsi_login_is_done(a))
		scsi_parse_serial(a->data, a->len, s->found.info.serial);
	return next_page(s, STEP_WWN);
}

static enum step answer_wwn(struct iscsi_session *s, const struct answer *a)
{
	if (iscsi_login_is_done(a))
		scsi_parse_wwn(a->data, a->len, s->found.info.wwn);
	return next_page(s, STEP_LIMITS);
}

static enum step answer_limits(struct iscsi_session *s, const struct answer *a)
{
	if (iscsi_login_is_done(a))
		scsi_parse_limits(a->data, a->len, &s->found.limits);
	return next_page(s, STEP_PROVISIONING);
}

static enum step answer_provisioning(struct iscsi_session *s, const struct answer *a)
{
	if (iscsi_login_is_done(a))
		scsi_parse_provisioning(a->data, a->len, &s->found.provisioning);
	return STEP_CAPACITY16;
}

static void make_capacity16(struct iscsi_session *s, struct scsi_command *c)
{
	(void)s;
	scsi_make_read_capacity16(c);
}

static void make_capacity10(struct iscsi_session *s, struct scsi_command *c)
{
	(void)s;
	scsi_make_read_capacity10(c);
}

static void set_capacity(struct iscsi_session *s, const struct scsi_capacity *capacity)
{
	s->found.info.size = capacity->blocks * capacity->block_size;
	s->found.info.block_size = capacity->block_size;
	s->found.info.thin = capacity->thin;
	s->found.zeros = s->found.provisioning.zeros ||
			 (capacity->zeros && !s->found.provisioning.pattern);
}

static enum step answer_capacity16(struct iscsi_session *s, const struct answer *a)
{
	struct scsi_capacity capacity;

	if (a->outcome->verdict == SCSI_UNSUPPORTED)
		return STEP_CAPACITY10;
	if (!iscsi_login_is_done(a))
		return refuse_outcome(s, ISCSI_LOST, a->outcome);
	if (scsi_parse_capacity16(a->data, a->len, &capacity) < 0)
		return refuse(s, ISCSI_REFUSED,
			      "the answer is no size that LunFS can use");
	set_capacity(s, &capacity);
	return STEP_MODE_CACHING;
}

static enum step answer_capacity10(struct iscsi_session *s, const struct answer *a)
{
	struct scsi_capacity capacity;

	if (!iscsi_login_is_done(a))
		return refuse_outcome(s, ISCSI_LOST, a->outcome);
	if (scsi_parse_capacity10(a->data, a->len, &capacity) < 0 || capacity.blocks == 0)
		return refuse(s, ISCSI_REFUSED,
			      "the answer is no size that LunFS can use");
	set_capacity(s, &capacity);
	return STEP_MODE_CACHING;
}

static void make_mode(struct iscsi_session *s, struct scsi_command *c)
{
	scsi_make_mode_sense6(
		c, s->step == STEP_MODE_CACHING ? SCSI_MODE_CACHING : SCSI_MODE_ALL, 252);
}

static enum step answer_mode(struct iscsi_session *s, const struct answer *a)
{
	struct scsi_caching caching;
	struct bd_info *info = &s->found.info;

	/* A device that tells nothing of its cache may have one. */
	info->write_cache = true;
	if (!iscsi_login_is_done(a) || scsi_parse_caching(a->data, a->len, &caching) < 0)
		return s->step == STEP_MODE_CACHING ? STEP_MODE_ALL : STEP_IDENTIFIED;
	info->read_only = caching.write_protect;
	s->found.fua = caching.fua;
	if (caching.has_page)
		info->write_cache = caching.write_cache;
	else if (s->step == STEP_MODE_CACHING)
		return STEP_MODE_ALL;
	return STEP_IDENTIFIED;
}

static uint32_t power_of_two_floor(uint32_t n)
{
	while (n & (n - 1))
		n &= n - 1;
	return n;
}

/* A power of two, at most what LunFS prefers and what the device takes; opt: its own
 * preference, or 0. */
static uint32_t preferred(uint64_t opt, uint32_t ours, uint32_t max)
{
	uint32_t n = opt && opt < ours ? (uint32_t)opt : ours;

	return power_of_two_floor(n < max ? n : max);
}

static void set_transfer_sizes(struct iscsi_session *s)
{
	struct bd_info *info = &s->found.info;
	const struct scsi_limits *limits = &s->found.limits;
	uint64_t max = (uint64_t)limits->max_transfer * info->block_size;
	uint64_t opt = (uint64_t)limits->opt_transfer * info->block_size;

	info->max_transfer =
		max == 0 || max > MAX_TRANSFER ? MAX_TRANSFER : (uint32_t)max;
	info->opt_transfer = preferred(opt, OPT_TRANSFER, info->max_transfer);
	info->opt_copy = preferred(opt, OPT_COPY, info->max_transfer);
}

static bool same_text(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

bool iscsi_login_same(const struct bd_info *a, const struct bd_info *b)
{
	return a->size == b->size && a->block_size == b->block_size &&
	       same_text(a->vendor, b->vendor) && same_text(a->product, b->product) &&
	       same_text(a->serial, b->serial) && same_text(a->wwn, b->wwn);
}

static enum step identified(struct iscsi_session *s)
{
	char error[BD_ERROR_MAX] = "";
	int r;

	set_transfer_sizes(s);
	if (s->state == ISCSI_CHECKING) {
		if (!bd_iscsi_check(s->device, &s->found.info)) {
			iscsi_session_fail(s, ISCSI_RESTARTED,
					   "identification: the device changed");
			return STEP_STOP;
		}
	} else {
		r = bd_iscsi_identify(s->device, s, &s->found.info, error, sizeof(error));
		if (r < 0) {
			iscsi_session_fail(s,
					   r == -EAGAIN ? ISCSI_FOLLOWS : ISCSI_REFUSED,
					   "%s", error);
			return STEP_STOP;
		}
	}
	return s->set->pr_key ? STEP_KEYS : iscsi_reserve_first(s);
}

/* The reservation. */

static void make_keys(struct iscsi_session *s, struct scsi_command *c)
{
	(void)s;
	scsi_make_pr_in(c, SCSI_PR_READ_KEYS, 8 + 8 * 512);
}

static enum step answer_keys(struct iscsi_session *s, const struct answer *a)
{
	uint64_t foreign;
	char text[128];

	if (a->outcome->verdict == SCSI_UNSUPPORTED)
		return STEP_DONE;
	if (!iscsi_login_is_done(a))
		return refuse_outcome(s, ISCSI_LOST, a->outcome);
	if (scsi_parse_keys(a->data, a->len, s->set->pr_key, &foreign) < 0)
		return refuse(s, ISCSI_LOST, "the answer is too short");
	if (foreign) {
		snprintf(text, sizeof(text),
			 "another host has registered the reservation key 0x%016" PRIx64
			 "; access = exclusive needs a LUN of its own",
			 foreign);
		return refuse(s, ISCSI_REFUSED, text);
	}
	return STEP_PR_CAPABILITIES;
}

static void make_pr_capabilities(struct iscsi_session *s, struct scsi_command *c)
{
	(void)s;
	scsi_make_pr_in(c, SCSI_PR_REPORT_CAPABILITIES, 8);
}

static enum step answer_pr_capabilities(struct iscsi_session *s, const struct answer *a)
{
	s->aptpl = false;
	if (iscsi_login_is_done(a))
		scsi_parse_pr_capabilities(a->data, a->len, &s->aptpl);
	return STEP_REGISTER;
}

static void make_register(struct iscsi_session *s, struct scsi_command *c)
{
	scsi_make_pr_out(c, s->login_cmd.param, SCSI_PR_REGISTER_AND_IGNORE,
			 SCSI_PR_WRITE_EXCLUSIVE_REGISTRANTS_ONLY, 0, s->set->pr_key,
			 s->aptpl && s->step == STEP_REGISTER);
}

static enum step answer_register(struct iscsi_session *s, const struct answer *a)
{
	if (iscsi_login_is_done(a)) {
		s->registered = true;
		s->reserve_tries = 0;
		return STEP_RESERVATION;
	}
	if (a->outcome->verdict == SCSI_UNSUPPORTED)
		return s->step == STEP_REGISTER && s->aptpl ? STEP_REGISTER_PLAIN :
							      STEP_DONE;
	return refuse_outcome(s, ISCSI_REFUSED, a->outcome);
}

static void make_reservation(struct iscsi_session *s, struct scsi_command *c)
{
	(void)s;
	scsi_make_pr_in(c, SCSI_PR_READ_RESERVATION, 24);
}

static enum step answer_reservation(struct iscsi_session *s, const struct answer *a)
{
	uint64_t key = 0;
	uint8_t type = 0;
	bool held;
	char text[128];

	if (!iscsi_login_is_done(a))
		return refuse_outcome(s, ISCSI_REFUSED, a->outcome);
	if (scsi_parse_reservation(a->data, a->len, &held, &key, &type) < 0)
		return refuse(s, ISCSI_LOST, "the answer is too short");
	if (!held && s->reserve_tries++ < RESERVE_TRIES)
		return STEP_RESERVE;
	if (held && key == s->set->pr_key &&
	    type == SCSI_PR_WRITE_EXCLUSIVE_REGISTRANTS_ONLY)
		return STEP_DONE;
	snprintf(text, sizeof(text),
		 "the LUN is reserved by key 0x%016" PRIx64 ", type %u", key, type);
	return refuse(s, ISCSI_REFUSED, held ? text : "the reservation does not last");
}

static void make_reserve(struct iscsi_session *s, struct scsi_command *c)
{
	scsi_make_pr_out(c, s->login_cmd.param, SCSI_PR_RESERVE,
			 SCSI_PR_WRITE_EXCLUSIVE_REGISTRANTS_ONLY, s->set->pr_key, 0,
			 false);
}

static enum step answer_reserve(struct iscsi_session *s, const struct answer *a)
{
	/* A conflict: another session of ours was first, or someone else's;
	 * who holds it tells. */
	if (iscsi_login_is_done(a) || a->outcome->status == SCSI_RESERVATION_CONFLICT)
		return STEP_RESERVATION;
	return refuse_outcome(s, ISCSI_REFUSED, a->outcome);
}

/* Giving it up: failures change nothing. */

static enum step answer_release_keys(struct iscsi_session *s, const struct answer *a)
{
	uint64_t foreign = 1;

	if (iscsi_login_is_done(a))
		scsi_parse_keys(a->data, a->len, s->set->pr_key, &foreign);
	return foreign ? STEP_RELEASE : STEP_CLEAR;
}

static void make_clear(struct iscsi_session *s, struct scsi_command *c)
{
	scsi_make_pr_out(c, s->login_cmd.param, SCSI_PR_CLEAR,
			 SCSI_PR_WRITE_EXCLUSIVE_REGISTRANTS_ONLY, s->set->pr_key, 0,
			 false);
}

static void make_release(struct iscsi_session *s, struct scsi_command *c)
{
	scsi_make_pr_out(c, s->login_cmd.param, SCSI_PR_RELEASE,
			 SCSI_PR_WRITE_EXCLUSIVE_REGISTRANTS_ONLY, s->set->pr_key, 0,
			 false);
}

static void make_unregister(struct iscsi_session *s, struct scsi_command *c)
{
	scsi_make_pr_out(c, s->login_cmd.param, SCSI_PR_REGISTER,
			 SCSI_PR_WRITE_EXCLUSIVE_REGISTRANTS_ONLY, s->set->pr_key, 0,
			 false);
}

static enum step then_unregister(struct iscsi_session *s, const struct answer *a)
{
	(void)s;
	(void)a;
	return STEP_UNREGISTER;
}

static enum step then_released(struct iscsi_session *s, const struct answer *a)
{
	(void)s;
	(void)a;
	return STEP_RELEASED;
}

static const struct step_ops steps[] = {
	[STEP_NONE] = { "identification", NULL, NULL },
	[STEP_UNIT_READY] = { "TEST UNIT READY", make_unit_ready, answer_unit_ready },
	[STEP_INQUIRY] = { "INQUIRY", make_inquiry, answer_inquiry },
	[STEP_VPD_PAGES] = { "INQUIRY (page 00)", make_inquiry, answer_vpd_pages },
	[STEP_SERIAL] = { "INQUIRY (page 80)", make_inquiry, answer_serial },
	[STEP_WWN] = { "INQUIRY (page 83)", make_inquiry, answer_wwn },
	[STEP_LIMITS] = { "INQUIRY (page B0)", make_inquiry, answer_limits },
	[STEP_PROVISIONING] = { "INQUIRY (page B2)", make_inquiry, answer_provisioning },
	[STEP_CAPACITY16] = { "READ CAPACITY(16)", make_capacity16, answer_capacity16 },
	[STEP_CAPACITY10] = { "READ CAPACITY(10)", make_capacity10, answer_capacity10 },
	[STEP_MODE_CACHING] = { "MODE SENSE (page 08)", make_mode, answer_mode },
	[STEP_MODE_ALL] = { "MODE SENSE (page 3F)", make_mode, answer_mode },
	[STEP_KEYS] = { "PERSISTENT RESERVE IN (READ KEYS)", make_keys, answer_keys },
	[STEP_PR_CAPABILITIES] = { "PERSISTENT RESERVE IN (REPORT CAPABILITIES)",
				   make_pr_capabilities, answer_pr_capabilities },
	[STEP_REGISTER] = { "PERSISTENT RESERVE OUT (REGISTER)", make_register,
			    answer_register },
	[STEP_REGISTER_PLAIN] = { "PERSISTENT RESERVE OUT (REGISTER)", make_register,
				  answer_register },
	[STEP_RESERVATION] = { "PERSISTENT RESERVE IN (READ RESERVATION)",
			       make_reservation, answer_reservation },
	[STEP_RESERVE] = { "PERSISTENT RESERVE OUT (RESERVE)", make_reserve,
			   answer_reserve },
	[STEP_RELEASE_KEYS] = { "PERSISTENT RESERVE IN (READ KEYS)", make_keys,
				answer_release_keys },
	[STEP_CLEAR] = { "PERSISTENT RESERVE OUT (CLEAR)", make_clear, then_released },
	[STEP_RELEASE] = { "PERSISTENT RESERVE OUT (RELEASE)", make_release,
			   then_unregister },
	[STEP_UNREGISTER] = { "PERSISTENT RESERVE OUT (REGISTER)", make_unregister,
			      then_released },
};

/* The steps' machine. */

static void begin(struct iscsi_session *s, enum step step);

static void on_lost(struct iscsi_cmd *cmd)
{
	(void)cmd;
}

static void on_answered(struct iscsi_cmd *cmd, const struct scsi_outcome *outcome)
{
	struct iscsi_session *s = cmd->session;
	struct answer answer = { .outcome = outcome };
	bool attention = outcome->verdict == SCSI_AGAIN ||
			 (outcome->verdict == SCSI_IDENTIFY && outcome->key == 6);

	if (s->state != ISCSI_IDENTIFYING && s->state != ISCSI_CHECKING &&
	    s->state != ISCSI_RELEASING)
		return; /* draining */
	if (attention && s->step_tries++ < MAX_UNIT_ATTENTIONS) {
		iscsi_cmd_send(cmd);
		return;
	}
	if (outcome->verdict == SCSI_AGAIN_LATER) {
		iscsi_cmd_send_later(
			cmd, 50 * ISCSI_MS + iscsi_session_random(s, 200 * ISCSI_MS));
		return;
	}
	if (outcome->verdict == SCSI_IDENTIFY && outcome->code == 0x2500) {
		refuse(s, ISCSI_NOT_THERE, "there is no such LUN");
		return;
	}
	answer.data = iscsi_cmd_data(cmd, &answer.len);
	begin(s, ops_of(s->step)->answer(s, &answer));
}

static void begin(struct iscsi_session *s, enum step step)
{
	struct iscsi_cmd *cmd = &s->login_cmd;

	if (step == STEP_IDENTIFIED)
		step = identified(s);
	s->step_tries = 0;
	switch (step) {
	case STEP_STOP:
		return;
	case STEP_DONE:
		s->step = STEP_NONE;
		iscsi_session_logged_in(s);
		return;
	case STEP_RELEASED:
		iscsi_session_released(s);
		return;
	default:
		break;
	}
	s->step = step;
	ops_of(step)->make(s, &cmd->scsi);
	cmd->data = cmd->scsi.direction == SCSI_DATA_OUT ? cmd->param : NULL;
	cmd->answered = on_answered;
	cmd->lost = on_lost;
	iscsi_cmd_send(cmd);
}

void iscsi_login_identify(struct iscsi_session *s)
{
	memset(&s->found, 0, sizeof(s->found));
	s->registered = false;
	begin(s, STEP_UNIT_READY);
}

void iscsi_login_release(struct iscsi_session *s)
{
	begin(s, s->set->pr_key ? STEP_RELEASE_KEYS : iscsi_reserve_last(s));
}
