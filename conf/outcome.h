/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_OUTCOME_H
#define LUNFS_OUTCOME_H

/*
 * What became of a call: the DMTF return code, the errno of the write that
 * made it, and one sentence for the person who reads `result`.
 */

#include <stdbool.h>
#include <stdint.h>

enum {
	OUTCOME_SENTENCE_MAX = 640,
};

/* Return codes of CIM_ReplicationService methods; those above JOB_STARTED are
 * CIM_ConcreteJob.RequestStateChange's own. */
enum cim_return {
	CIM_RETURN_OK = 0,
	CIM_RETURN_NOT_SUPPORTED = 1,
	CIM_RETURN_UNKNOWN = 2,
	CIM_RETURN_TIMEOUT = 3,
	CIM_RETURN_FAILED = 4,
	CIM_RETURN_INVALID_PARAMETER = 5,
	CIM_RETURN_IN_USE = 6,
	CIM_RETURN_JOB_STARTED = 4096,
	CIM_RETURN_INVALID_STATE_TRANSITION = 4097,
	CIM_RETURN_TIMEOUT_PARAMETER_NOT_SUPPORTED = 4098,
	CIM_RETURN_BUSY = 4099,
};

struct outcome {
	uint32_t code; /* enum cim_return */
	int error;     /* positive errno; 0 for OK and JOB_STARTED */
	char sentence[OUTCOME_SENTENCE_MAX]; /* "" on success; no newline */
};

void outcome_ok(struct outcome *o);
void outcome_job_started(struct outcome *o);

/*
 * Fails with `code`.  error: the errno of the write, 0 for the usual one of
 * that code (table in outcome.c).  Returns -errno, for `return outcome_fail()`.
 */
int outcome_fail(struct outcome *o, uint32_t code, int error, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* The code an errno (positive) stands for; what is not in the table is
 * CIM_RETURN_UNKNOWN, never Invalid Parameter. */
uint32_t outcome_code_of_errno(int error);

/* The same for what was tried after all checks: no errno of it is the caller's mistake, so
 * what the table has as such is CIM_RETURN_FAILED; and the errno of the write that tells
 * of it in *ret_error, 0 for the usual one of the code. */
uint32_t outcome_code_of_failure(int error, int *ret_error);

/* "Invalid Parameter"; NULL for a code without a name. */
const char *outcome_code_name(uint32_t code);

static inline bool outcome_is_success(const struct outcome *o)
{
	return o->error == 0;
}

#endif
