/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>

#include "conf/setting.h"

START_TEST(values_have_one_canonical_form)
{
	static const struct {
		const char *name, *value, *canonical;
	} rows[] = {
		{ "ConsistentPointInTime", "TRUE", "true" },
		{ "ConsistentPointInTime", "no", "false" },
		{ "DesiredCopyMethodology", "5", "Differential-Copy" },
		{ "DesiredCopyMethodology", "copy on write", "Copy-On-Write" },
		{ "DesiredCopyMethodology", "2", "Instrumentation decides" },
		{ "DesiredCopyMethodology", "Implementation decides",
		  "Instrumentation decides" },
		{ "DesiredCopyMethodology", "instrumentation_decides",
		  "Instrumentation decides" },
		{ "Multihop", "65535", "65535" },
		{ "Multihop", "01", "1" },
		{ "OnGroupOrListError", "stop", "Stop" },
		{ "OnGroupOrListError", "2", "Continue" },
		{ "UnequalGroupsAction", "4", "Allow target group to be larger" },
		{ "UnequalListsAction", "4", "Allow target list to be larger" },
		{ "TargetElementSupplier", "create-new", "Create new" },
		{ "ThinProvisioningPolicy", "4", "Copy full source to thin target" },
		{ "StorageCompressionPolicy", "5",
		  "Compression of target same as source" },
		{ "Pairing", "3", "Exact order" },
		{ "CopyRecoveryMode", "0", "Unknown" },
		{ "CopyRecoveryMode", "Implementation decides",
		  "Implementation decides" },
		{ "DeltaUpdateInterval", "00000000000500.000000:000",
		  "00000000000500.000000:000" },
		{ "DeltaUpdateBlocks", "18446744073709551615", "18446744073709551615" },
		{ "ReadOnly", "SyncedElement", "SyncedElement" },
		{ "TargetElementResourcePool", "3", "Same as source element" },
		{ "TargetElementGoal", "2", "Implementation decides" },
		{ "DesiredRPO", "99999999235959.999999:000",
		  "99999999235959.999999:000" },
		{ "CopyPriority", "0", "Not Managed" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		int property = setting_find(rows[i].name);
		char value[SETTING_VALUE_SIZE] = "", again[SETTING_VALUE_SIZE] = "";
		char error[512] = "";

		ck_assert_int_ge(property, 0);
		ROW_EQ(rows[i].value,
		       setting_check(property, rows[i].value, value, error,
				     sizeof(error)),
		       0);
		ROW_STR_EQ(rows[i].name, value, rows[i].canonical);
		ROW_EQ(value, setting_check(property, value, again, error, sizeof(error)),
		       0);
		ROW_STR_EQ(rows[i].name, again, rows[i].canonical);
	}
}
END_TEST

START_TEST(wrong_values_are_refused_by_name)
{
	static const struct {
		const char *name, *value;
		int r;
		const char *error;
	} rows[] = {
		{ "ConsistentPointInTime", "maybe", -EINVAL, "neither true nor false" },
		{ "DesiredCopyMethodology", "0", -EINVAL, "not one of its values" },
		{ "DesiredCopyMethodology", "Not Specified", -EINVAL,
		  "not one of its values" },
		{ "DesiredCopyMethodology", "12", -EINVAL, "not one of its values" },
		{ "DesiredCopyMethodology", "32768", -EOPNOTSUPP, "vendor" },
		{ "DesiredCopyMethodology", "65536", -EINVAL, "not one of its values" },
		{ "DesiredCopyMethodology", "Ful Copy", -EINVAL,
		  "did you mean \"Full Copy\"?" },
		{ "Multihop", "65536", -EINVAL, "from 1 to 65535" },
		{ "Multihop", "-1", -EINVAL, "from 1 to 65535" },
		{ "Multihop", "0", -EINVAL, "from 1 to 65535" },
		{ "OnGroupOrListError", "1", -EINVAL, "valid: Continue, Stop" },
		{ "OnGroupOrListError", "Stopp", -EINVAL, "did you mean \"Stop\"?" },
		{ "TargetElementSupplier", "0", -EINVAL, "not one of its values" },
		{ "TargetElementSupplier", "6", -EINVAL, "not one of its values" },
		{ "ReadOnly", "yes", -EINVAL, "valid: SystemElement" },
		{ "CopyRecoveryMode", "1", -EINVAL, "not one of its values" },
		{ "CopyPriority", "5", -EINVAL, "not one of its values" },
		{ "DeltaUpdateBlocks", "18446744073709551616", -EINVAL, "not a number" },
		{ "DeltaUpdateBlocks", "1K", -EINVAL, "not a number" },
		{ "DeltaUpdateInterval", "300", -EINVAL, "CIM interval" },
		{ "DeltaUpdateInterval", "00000000240000.000000:000", -EINVAL,
		  "interval" },
		{ "DeltaUpdateInterval", "00000000006000.000000:000", -EINVAL,
		  "interval" },
		{ "DeltaUpdateInterval", "00000000000060.000000:000", -EINVAL,
		  "interval" },
		{ "DeltaUpdateInterval", "00000000000500.000000:001", -EINVAL,
		  "interval" },
		{ "DeltaUpdateInterval", "00000000000500.000000:0000", -EINVAL,
		  "interval" },
		{ "DeltaUpdateInterval", "00000000000500.000000:00", -EINVAL,
		  "interval" },
		{ "DeltaUpdateInterval", "20260131123456.000000+060", -EINVAL,
		  "interval" },
		{ "DeltaUpdateInterval", "", -EINVAL, "interval" },
		{ "MaximumSkew", "1", -EINVAL, "read-only" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		char value[SETTING_VALUE_SIZE] = "kept", error[512] = "";

		ROW_EQ(rows[i].value,
		       setting_check(setting_find(rows[i].name), rows[i].value, value,
				     error, sizeof(error)),
		       rows[i].r);
		ROW_HAS(rows[i].value, error, rows[i].error);
		ck_assert_ptr_eq(strstr(error, rows[i].name), error);
		ck_assert_str_eq(value, "kept");
	}
}
END_TEST

START_TEST(every_property_is_found_and_judges_every_number)
{
	for (int i = 0; i < SETTING_N_PROPERTIES; i++) {
		ck_assert_int_eq(setting_find(setting_names[i]), i);
		for (unsigned number = 0; number <= 40; number++) {
			char text[16], value[SETTING_VALUE_SIZE] = "", error[512] = "";
			int r;

			snprintf(text, sizeof(text), "%u", number);
			r = setting_check(i, text, value, error, sizeof(error));
			ROW_EQ(setting_names[i], !*error, r == 0);
			ROW_EQ(setting_names[i], !*value, r != 0);
		}
	}
	ck_assert_int_eq(setting_find("readonly"), -1);
	ck_assert_int_eq(setting_find(""), -1);
	for (size_t i = 0; i < setting_n_goal_names; i++)
		ck_assert_int_ge(setting_find(setting_goal_names[i]), 0);
}
END_TEST

START_TEST(unknown_properties_are_explained)
{
	static const struct {
		const char *name, *error;
	} rows[] = {
		{ "OnGroupError", "unknown property \"OnGroupError\"; did you mean "
				  "\"OnGroupOrListError\"?" },
		{ "copypriority", "did you mean \"CopyPriority\"?" },
		{ "ElementName", "inherited" },
		{ "InstanceID", "inherited" },
		{ "StartCopy", "unknown property \"StartCopy\"" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		char error[512] = "";

		setting_explain_unknown(rows[i].name, setting_names, SETTING_N_PROPERTIES,
					error, sizeof(error));
		ROW_HAS(rows[i].name, error, rows[i].error);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		values_have_one_canonical_form,
		wrong_values_are_refused_by_name,
		every_property_is_found_and_judges_every_number,
		unknown_properties_are_explained,
	};

	return unit_main("setting", tests, ROWS(tests));
}
