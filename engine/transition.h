/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TRANSITION_H
#define LUNFS_TRANSITION_H

/*
 * The CopyStates of a pair, and what leads from one to another: the operations of
 * ModifyReplicaSynchronization, and what happens by itself.  One table, from which come
 * what `control` lists and takes, what draft_commit() lets through, capabilities/, the
 * table of lunfs-control(5) and its test.
 *
 * Pure functions of the numbers of conf/cim.h: any thread.
 */

#include <stdbool.h>
#include <stddef.h>

/* A set of CopyStates has a bit for each; no CopyState is 0. */
#define TRANSITION_IN(state) (1u << (state))

enum {
	TRANSITION_STAYS = 1u << 0, /* the pair stays as it is */
};
/* Those in which a Clone has all of its instant, and a Snapshot shows it. */
#define TRANSITION_THERE                                                         \
	(TRANSITION_IN(CIM_COPY_SYNCHRONIZED) | TRANSITION_IN(CIM_COPY_SKEWED) | \
	 TRANSITION_IN(CIM_COPY_FRACTURED))
/* The relationship ends, with all its pairs. */
#define TRANSITION_ENDS TRANSITION_IN(CIM_COPY_NOT_APPLICABLE)

/* What a relationship that detaches has to do with an operation. */
enum transition_detaching {
	TRANSITION_NOT_THEN,
	TRANSITION_ALSO_THEN,
	TRANSITION_ONLY_THEN,
};

struct transition {
	unsigned operation; /* enum cim_operation; 0: it happens by itself */
	unsigned sync_type;
	unsigned from; /* of a pair, a set */
	/* A set: what the pair goes to when the operation is carried out; more than one:
	 * by what was done to it before (Skewed, where it was written), or STAYS, what
	 * is complete already. */
	unsigned to;
	unsigned answer; /* 0, or CIM_RETURN_JOB_STARTED: `to` is reached by the job */
	unsigned end;	 /* what comes of it by itself, once all is copied; 0: nothing */
	enum transition_detaching detaching;
	bool beside;	/* only if another pair is in a row of the operation without it */
	const char *by; /* what happens; NULL: an operation */
};

/* The rows, in order; NULL: there are no more. */
const struct transition *transition_row(size_t i);
/* The row of a pair; NULL: the operation has none from there. */
const struct transition *transition_find(unsigned operation, unsigned sync_type,
					 unsigned state);
/* What an operation is carried out from, beside nothing else; 0: the SyncType does not
 * have it. */
unsigned transition_from(unsigned operation, unsigned sync_type);
/* Whether it is carried out only while the relationship detaches. */
bool transition_only_detaching(unsigned operation, unsigned sync_type);
/* The CopyStates that a pair can be in. */
unsigned transition_states(unsigned sync_type);
/* Whether a pair may go there, by whatever. */
bool transition_may_go(unsigned sync_type, unsigned from, unsigned to);

/* Why an operation is refused; some are known to operation.c only. */
enum transition_refusal {
	TRANSITION_ALLOWED,
	TRANSITION_NOT_SUPPORTED,
	TRANSITION_IN_INSTANT, /* a job is about to take an instant */
	TRANSITION_RESTORING,
	TRANSITION_VERIFYING, /* another Verify */
	TRANSITION_DETACHING,
	TRANSITION_NOT_DETACHING,
	TRANSITION_WRONG_STATE,
	TRANSITION_N_REFUSALS,
};

/* states: those of all pairs.  ALLOWED, NOT_SUPPORTED or one from DETACHING on. */
enum transition_refusal transition_check(unsigned operation, unsigned sync_type,
					 unsigned states, bool detaching);
/* The code that it is answered with, and when that is, as a clause. */
unsigned transition_code(enum transition_refusal refusal);
const char *transition_when(enum transition_refusal refusal);
/* Why the SyncType lacks an operation, and what to do instead; NULL: it has it. */
const char *transition_why_not(unsigned operation, unsigned sync_type);
/* Why no pair of the SyncType is ever in a CopyState; NULL: one can be. */
const char *transition_why_never(unsigned sync_type, unsigned state);

/* RequestStateChange of a job that copies, from and to a JobState.  What has no row is an
 * Invalid State Transition. */
struct transition_job {
	unsigned request, from, to;
};
/* The rows, in order; NULL: there are no more. */
const struct transition_job *transition_job_row(size_t i);

/* "Synchronized, Skewed" */
void transition_describe_states(unsigned states, char *buf, size_t size);

#endif
