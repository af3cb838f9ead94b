/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_ISCSI_LOGIN_H
#define LUNFS_ISCSI_LOGIN_H

/* The steps after a login, for iscsi_login.c, whose machine takes them, and
 * iscsi_reserve.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/iscsi_session.h"
#include "engine/scsi.h"

enum step {
	STEP_NONE,
	STEP_UNIT_READY,
	STEP_INQUIRY,
	STEP_VPD_PAGES,
	STEP_SERIAL,
	STEP_WWN,
	STEP_LIMITS,
	STEP_PROVISIONING,
	STEP_CAPACITY16,
	STEP_CAPACITY10,
	STEP_MODE_CACHING,
	STEP_MODE_ALL,
	STEP_IDENTIFIED, /* no command from here ... */
	STEP_DONE,
	STEP_STOP, /* ... to here */
	STEP_KEYS,
	STEP_PR_CAPABILITIES,
	STEP_REGISTER,
	STEP_REGISTER_PLAIN, /* without APTPL */
	STEP_RESERVATION,
	STEP_RESERVE,
	STEP_RELEASE_KEYS,
	STEP_CLEAR,
	STEP_RELEASE,
	STEP_UNREGISTER,
	STEP_RELEASED, /* no command */
	/* iscsi_reserve.c, from here on. */
	STEP_HOLD_KEYS,
	STEP_HOLD_CAPABILITIES,
	STEP_HOLD_REGISTER,
	STEP_HOLD_REGISTER_PLAIN,
	STEP_HOLD_LOOK,
	STEP_HOLD_RESERVE,
	STEP_FREE_KEYS,
	STEP_FREE_REGISTER,
	STEP_FREE_CLEAR,
	STEP_FREE_PREEMPT,
	STEP_FREE_RELEASE,
	STEP_FREE_UNREGISTER,
	STEP_END,
};

/* What a step's command brought. */
struct answer {
	const struct scsi_outcome *outcome;
	const uint8_t *data;
	size_t len;
};

struct step_ops {
	const char *what;
	void (*make)(struct iscsi_session *s, struct scsi_command *c);
	/* The next step.  Is called with the verdicts SCSI_DONE,
	 * SCSI_UNSUPPORTED, SCSI_FAILED and SCSI_BAD_MEDIUM. */
	enum step (*answer)(struct iscsi_session *s, const struct answer *a);
};

/* From STEP_HOLD_KEYS on, in that order. */
extern const struct step_ops iscsi_reserve_steps[];

/* After identification: what a bd_reserve for this session asks for, or a look at
 * what the device holds; STEP_DONE if it is neither. */
enum step iscsi_reserve_first(struct iscsi_session *s);
/* The same before the session logs out. */
enum step iscsi_reserve_last(struct iscsi_session *s);

static inline bool iscsi_login_is_done(const struct answer *a)
{
	return a->outcome->verdict == SCSI_DONE;
}

#endif
