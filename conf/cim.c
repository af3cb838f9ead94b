/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/cim.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define VALUE_(symbol, number, name) { number, name },
#define MAP_(map, property, table)                                               \
	static const struct cim_value map##_values[] = { table(VALUE_) };        \
	const struct cim_map map = { property, map##_values,                     \
				     sizeof(map##_values) / sizeof(map##_values[0]) }

MAP_(cim_sync_type, "SyncType", CIM_SYNC_TYPE);
MAP_(cim_mode, "Mode", CIM_MODE);
MAP_(cim_consistency, "Consistency", CIM_CONSISTENCY);
MAP_(cim_copy_state, "CopyState", CIM_COPY_STATE);
MAP_(cim_progress_status, "ProgressStatus", CIM_PROGRESS_STATUS);
MAP_(cim_sync_state, "SyncState", CIM_SYNC_STATE);
MAP_(cim_replica_type, "ReplicaType", CIM_REPLICA_TYPE);
MAP_(cim_copy_type, "CopyType", CIM_COPY_TYPE);
MAP_(cim_copy_priority, "CopyPriority", CIM_COPY_PRIORITY);
MAP_(cim_copy_methodology, "CopyMethodology", CIM_COPY_METHODOLOGY);
MAP_(cim_copy_recovery_mode, "CopyRecoveryMode", CIM_COPY_RECOVERY_MODE);
MAP_(cim_consistency_type, "ConsistencyType", CIM_CONSISTENCY_TYPE);
MAP_(cim_consistency_state, "ConsistencyState", CIM_CONSISTENCY_STATE);
MAP_(cim_consistency_status, "ConsistencyStatus", CIM_CONSISTENCY_STATUS);
MAP_(cim_job_state, "JobState", CIM_JOB_STATE);
MAP_(cim_job_request, "RequestedState", CIM_JOB_REQUEST);
MAP_(cim_operational_status, "OperationalStatus", CIM_OPERATIONAL_STATUS);
MAP_(cim_operation, "Operation", CIM_OPERATION);

const char *cim_name(const struct cim_map *map, unsigned number)
{
	for (size_t i = 0; i < map->n_values; i++)
		if (map->values[i].number == number)
			return map->values[i].name;
	return "";
}

static int next_letter(const char **s)
{
	while (**s == ' ' || **s == '\t' || **s == '-' || **s == '_')
		(*s)++;
	return **s ? tolower((unsigned char)*(*s)++) : 0;
}

int cim_same_name(const char *a, const char *b)
{
	int x, y;

	do {
		x = next_letter(&a);
		y = next_letter(&b);
	} while (x == y && x);
	return x == y;
}

int cim_parse(const struct cim_map *map, const char *text, unsigned *ret_number)
{
	size_t digits = strspn(text, "0123456789");

	if (digits && !text[digits]) {
		unsigned number = 0;

		for (; *text; text++) {
			number = number * 10 + (unsigned)(*text - '0');
			if (number > 65535)
				return -EINVAL;
		}
		*ret_number = number;
		return 0;
	}
	for (size_t i = 0; i < map->n_values; i++)
		if (cim_same_name(map->values[i].name, text)) {
			*ret_number = map->values[i].number;
			return 0;
		}
	return -EINVAL;
}
