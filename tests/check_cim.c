/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>

#include "conf/capability.h"
#include "conf/cim.h"

static const struct cim_map *const maps[] = {
	&cim_sync_type,
	&cim_mode,
	&cim_consistency,
	&cim_copy_state,
	&cim_progress_status,
	&cim_sync_state,
	&cim_replica_type,
	&cim_copy_type,
	&cim_copy_priority,
	&cim_copy_methodology,
	&cim_copy_recovery_mode,
	&cim_consistency_type,
	&cim_consistency_state,
	&cim_consistency_status,
	&cim_job_state,
	&cim_job_request,
	&cim_operational_status,
	&cim_operation,
	&capability_replication_type,
	&capability_storage_object,
	&capability_action,
	&capability_feature,
	&capability_group_feature,
	&capability_thin_feature,
	&capability_component,
	&capability_persistency,
};

START_TEST(numbers_are_those_of_the_schema)
{
	static const struct {
		const struct cim_map *map;
		const char *name;
		unsigned number;
	} rows[] = {
		{ &cim_sync_type, "Mirror", 6 },
		{ &cim_sync_type, "Clone", 8 },
		{ &cim_mode, "Asynchronous", 3 },
		{ &cim_consistency, "No Consistency", 2 },
		{ &cim_consistency, "Sequential Consistency", 3 },
		{ &cim_consistency_type, "Sequentially Consistent", 2 },
		{ &cim_copy_state, "Initialized", 2 },
		{ &cim_copy_state, "Fractured", 6 },
		{ &cim_copy_state, "Not Applicable", 15 },
		{ &cim_copy_state, "Restored", 18 },
		{ &cim_progress_status, "Unknown", 0 },
		{ &cim_progress_status, "Requires resume", 25 },
		{ &cim_sync_state, "Synchronized", 6 },
		{ &cim_sync_state, "Broken", 12 },
		{ &cim_job_state, "Completed", 7 },
		{ &cim_job_state, "Query Pending", 12 },
		{ &cim_operation, "Resync Replica", 14 },
		{ &cim_operation, "Return To ResourcePool", 19 },
		{ &cim_operational_status, "Completed", 17 },
		{ &capability_replication_type, "Asynchronous Clone Local", 11 },
		{ &capability_replication_type, "Active Mirror Remote", 27 },
		{ &capability_feature, "Adjustable CopyPriority", 24 },
		{ &capability_group_feature, "Client can supply RelationshipName", 56 },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		unsigned number = 0;

		ROW_EQ(rows[i].name, cim_parse(rows[i].map, rows[i].name, &number), 0);
		ROW_EQ(rows[i].name, number, rows[i].number);
		ROW_STR_EQ(rows[i].name, cim_name(rows[i].map, number), rows[i].name);
	}
}
END_TEST

START_TEST(every_value_reads_back_by_name_and_number)
{
	for (size_t i = 0; i < ROWS(maps); i++)
		for (size_t j = 0; j < maps[i]->n_values; j++) {
			const struct cim_value *value = &maps[i]->values[j];
			unsigned number = 0;
			char text[16];

			ROW_EQ(value->name, cim_parse(maps[i], value->name, &number), 0);
			ROW_EQ(value->name, number, value->number);
			snprintf(text, sizeof(text), "%u", value->number);
			ROW_EQ(text, cim_parse(maps[i], text, &number), 0);
			ROW_EQ(text, number, value->number);
			ROW_STR_EQ(text, cim_name(maps[i], number), value->name);
		}
}
END_TEST

START_TEST(maps_have_no_value_twice)
{
	for (size_t i = 0; i < ROWS(maps); i++)
		for (size_t j = 0; j < maps[i]->n_values; j++)
			for (size_t k = 0; k < j; k++) {
				ck_assert_uint_ne(maps[i]->values[j].number,
						  maps[i]->values[k].number);
				ck_assert(!cim_same_name(maps[i]->values[j].name,
							 maps[i]->values[k].name));
			}
}
END_TEST

START_TEST(parse_ignores_case_blanks_hyphen_and_underscore)
{
	static const struct {
		const struct cim_map *map;
		const char *text;
		int r;
		unsigned number;
	} rows[] = {
		{ &cim_copy_state, "not applicable", 0, 15 },
		{ &cim_copy_state, "NOT_APPLICABLE", 0, 15 },
		{ &cim_copy_state, "Not-Applicable", 0, 15 },
		{ &cim_copy_state, " notapplicable\t", 0, 15 },
		{ &cim_sync_type, "tokenized_clone", 0, 9 },
		{ &cim_operation, "resyncreplica", 0, 14 },
		{ &cim_sync_type, "4711", 0, 4711 },
		{ &cim_sync_type, "65535", 0, 65535 },
		{ &cim_sync_type, "007", 0, 7 },
		{ &cim_sync_type, "65536", -EINVAL, 0 },
		{ &cim_sync_type, "99999999999999999999", -EINVAL, 0 },
		{ &cim_sync_type, "-8", -EINVAL, 0 },
		{ &cim_sync_type, "+8", -EINVAL, 0 },
		{ &cim_sync_type, "8 ", -EINVAL, 0 },
		{ &cim_sync_type, "0x8", -EINVAL, 0 },
		{ &cim_sync_type, "", -EINVAL, 0 },
		{ &cim_sync_type, " ", -EINVAL, 0 },
		{ &cim_sync_type, "Clon", -EINVAL, 0 },
		{ &cim_sync_type, "Clones", -EINVAL, 0 },
		{ &cim_sync_type, "Broken", -EINVAL, 0 },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		unsigned number = 12345;

		ROW_EQ(rows[i].text, cim_parse(rows[i].map, rows[i].text, &number),
		       rows[i].r);
		ROW_EQ(rows[i].text, number, rows[i].r ? 12345 : rows[i].number);
	}
}
END_TEST

START_TEST(unnamed_numbers_have_no_name)
{
	ck_assert_str_eq(cim_name(&cim_copy_state, 0), "");
	ck_assert_str_eq(cim_name(&cim_copy_state, 1), "");
	ck_assert_str_eq(cim_name(&cim_sync_type, 40000), "");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		numbers_are_those_of_the_schema,
		every_value_reads_back_by_name_and_number,
		maps_have_no_value_twice,
		parse_ignores_case_blanks_hyphen_and_underscore,
		unnamed_numbers_have_no_name,
	};

	return unit_main("cim", tests, ROWS(tests));
}
