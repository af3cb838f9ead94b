/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/outcome.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* The one table between DMTF return codes and errno, both ways.  The first
 * row of a code gives the errno a failure has unless it names its own. */
static const struct {
	uint32_t code;
	int error;
	const char *name;
} table[] = {
	{ CIM_RETURN_OK, 0, "Completed with No Error" },
	{ CIM_RETURN_NOT_SUPPORTED, EOPNOTSUPP, "Not Supported" },
	{ CIM_RETURN_UNKNOWN, EIO, "Unknown" },
	{ CIM_RETURN_TIMEOUT, ETIMEDOUT, "Timeout" },
	{ CIM_RETURN_FAILED, EIO, "Failed" },
	{ CIM_RETURN_FAILED, ENOSPC, "Failed" },
	{ CIM_RETURN_FAILED, ENOMEM, "Failed" },
	{ CIM_RETURN_FAILED, EROFS, "Failed" },
	{ CIM_RETURN_FAILED, ENODATA, "Failed" }, /* medium error */
	{ CIM_RETURN_INVALID_PARAMETER, EINVAL, "Invalid Parameter" },
	{ CIM_RETURN_INVALID_PARAMETER, ENOENT, "Invalid Parameter" },
	{ CIM_RETURN_INVALID_PARAMETER, ENAMETOOLONG, "Invalid Parameter" },
	{ CIM_RETURN_INVALID_PARAMETER, E2BIG, "Invalid Parameter" },
	{ CIM_RETURN_IN_USE, EBUSY, "In Use" },
	{ CIM_RETURN_JOB_STARTED, 0, "Method Parameters Checked - Job Started" },
	{ CIM_RETURN_INVALID_STATE_TRANSITION, EPERM, "Invalid State Transition" },
	{ CIM_RETURN_TIMEOUT_PARAMETER_NOT_SUPPORTED, EINVAL,
	  "Use of Timeout Parameter Not Supported" },
	{ CIM_RETURN_BUSY, EBUSY, "Busy" },
};

#define N_ROWS (sizeof(table) / sizeof(table[0]))

void outcome_ok(struct outcome *o)
{
	o->code = CIM_RETURN_OK;
	o->error = 0;
	o->sentence[0] = '\0';
}

void outcome_job_started(struct outcome *o)
{
	outcome_ok(o);
	o->code = CIM_RETURN_JOB_STARTED;
}

int outcome_fail(struct outcome *o, uint32_t code, int error, const char *fmt, ...)
{
	va_list ap;

	o->code = code;
	o->error = error;
	for (size_t i = 0; !o->error && i < N_ROWS; i++)
		if (table[i].code == code)
			o->error = table[i].error;
	if (!o->error)
		o->error = EIO;
	va_start(ap, fmt);
	vsnprintf(o->sentence, sizeof(o->sentence), fmt, ap);
	va_end(ap);
	for (char *c = o->sentence; *c; c++)
		if (*c == '\n')
			*c = ' ';
	return -o->error;
}

uint32_t outcome_code_of_errno(int error)
{
	for (size_t i = 0; i < N_ROWS; i++)
		if (table[i].error == error && table[i].code != CIM_RETURN_UNKNOWN)
			return table[i].code;
	return CIM_RETURN_UNKNOWN;
}

uint32_t outcome_code_of_failure(int error, int *ret_error)
{
	uint32_t code = outcome_code_of_errno(error);

	*ret_error = code == CIM_RETURN_FAILED ? error : 0;
	return code == CIM_RETURN_UNKNOWN ? code : CIM_RETURN_FAILED;
}

const char *outcome_code_name(uint32_t code)
{
	for (size_t i = 0; i < N_ROWS; i++)
		if (table[i].code == code)
			return table[i].name;
	return NULL;
}
