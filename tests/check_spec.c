/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>

#include "conf/cim.h"
#include "conf/spec.h"

#define A32 "abcdefghijklmnopqrstuvwxyz012345"

static int parse(const char *text, struct spec *spec, struct outcome *outcome)
{
	return spec_parse(text, strlen(text), spec, outcome);
}

START_TEST(one_line_and_ini_give_the_same_values)
{
	static const struct {
		const char *text;
		const char *canonical;
	} rows[] = {
		{ "SourceGroup=prod SyncType=Clone\n",
		  "SyncType=Clone\nSourceGroup=prod\n[Run]\n" },
		{ "SyncType=8\tSourceGroup=prod\n",
		  "SyncType=Clone\nSourceGroup=prod\n[Run]\n" },
		{ " \tSyncType=clone   SourceGroup=prod \t\n",
		  "SyncType=Clone\nSourceGroup=prod\n[Run]\n" },
		{ "SyncType=\"Clone\" SourceGroup=\"prod\"\n",
		  "SyncType=Clone\nSourceGroup=prod\n[Run]\n" },
		{ "SyncType=CLONE SourceElement=" A32 "_1234567\n",
		  "SyncType=Clone\nSourceElement=" A32 "_1234567\n[Run]\n" },
		{ "SyncType=Clone SourceElement=db0 TargetElementCount=1\n",
		  "SyncType=Clone\nSourceElement=db0\nTargetElementCount=1\n[Run]\n" },
		{ "SyncType=Clone SourceGroup=prod Consistency=\"Sequential Consistency\"\n",
		  "SyncType=Clone\nSourceGroup=prod\n"
		  "Consistency=Sequential Consistency\n[Run]\n" },
		{ "SyncType=Clone SourceGroup=prod Consistency=no_consistency Mode=2\n",
		  "SyncType=Clone\nMode=Synchronous\nSourceGroup=prod\n"
		  "Consistency=No Consistency\n[Run]\n" },
		{ "WaitForCopyState=11 TargetPool=p Mode=asynchronous SourceGroup=g "
		  "SyncType=8 RelationshipName=" A32 "\n",
		  "RelationshipName=" A32
		  "\nSyncType=Clone\nMode=Asynchronous\nSourceGroup=g\n"
		  "TargetPool=p\nWaitForCopyState=Prepared\n[Run]\n" },
		{ "SyncType=Clone\nSourceGroup=prod\n[Run]\n",
		  "SyncType=Clone\nSourceGroup=prod\n[Run]\n" },
		{ "# a comment\n\n; another\nSyncType = clone\n  \nSourceGroup =prod\n[Run]\n",
		  "SyncType=Clone\nSourceGroup=prod\n[Run]\n" },
		{ "SyncType=Clone\nSourceGroup=prod\nWaitForCopyState = Synchronized\n"
		  "[ReplicationSettingData]\n[TargetSettingGoal]\n# empty\n[Run]\n",
		  "SyncType=Clone\nSourceGroup=prod\nWaitForCopyState=Synchronized\n[Run]\n" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
		struct outcome outcome;
		struct spec spec;

		outcome_fail(&outcome, 5, 0, "%s", "");
		ROW_EQ(rows[i].text, parse(rows[i].text, &spec, &outcome), 0);
		ck_assert(outcome_is_success(&outcome));
		spec_format(&spec, &b);
		ROW_STR_EQ(rows[i].text, b.s, rows[i].canonical);
		spec_done(&spec);
		ROW_EQ(rows[i].text, parse(b.s, &spec, &outcome), 0);
		strbuf_reset(&b);
		spec_format(&spec, &b);
		ROW_STR_EQ(rows[i].text, b.s, rows[i].canonical);
		spec_done(&spec);
	}
}
END_TEST

START_TEST(fields_hold_what_was_written)
{
	struct outcome outcome;
	struct spec spec;

	ck_assert_int_eq(parse("RelationshipName=r SyncType=Clone Mode=3 SourceElement=e "
			       "TargetElementCount=1 Consistency=3 TargetPool=p "
			       "WaitForCopyState=Inactive\n",
			       &spec, &outcome),
			 0);
	ck_assert_str_eq(spec.relationship_name, "r");
	ck_assert_uint_eq(spec.sync_type, CIM_SYNC_CLONE);
	ck_assert_uint_eq(spec.mode, CIM_MODE_ASYNCHRONOUS);
	ck_assert_str_eq(spec.source_group, "");
	ck_assert_str_eq(spec.source_element, "e");
	ck_assert_uint_eq(spec.target_element_count, 1);
	ck_assert_uint_eq(spec.consistency, CIM_CONSISTENCY_SEQUENTIAL);
	ck_assert_str_eq(spec.target_pool, "p");
	ck_assert_uint_eq(spec.wait_for_copy_state, CIM_COPY_INACTIVE);
	ck_assert_ptr_null(spec.setting_properties);
	ck_assert_ptr_null(spec.target_setting_goal);
	spec_done(&spec);
	ck_assert_int_eq(parse("SyncType=Clone SourceElement=e ReplicationSettingData=s\n",
			       &spec, &outcome),
			 0);
	ck_assert_str_eq(spec.setting, "s");
	spec_done(&spec);
}
END_TEST

/* Two parameters that a one-line text needs beside the one that is tested. */
#define G " SyncType=Clone SourceGroup=g\n"
#define E " SyncType=Clone SourceElement=e\n"
#define INI "SyncType=Clone\nSourceGroup=g\n"

/* With "/1" as long as a canonical text can have it. */
#define A20 "aaaaaaaaaaaaaaaaaaaa"
#define LONG "iqn.2026-01.a:" A20 A20 A20 A20 A20 A20 A20 A20 "123456789"

START_TEST(access_points_and_the_luns_at_them)
{
	static const struct {
		const char *text, *source, *target;
		unsigned lun;
	} rows[] = {
		{ "SyncType=Clone SourceElement=iqn.2026-01.a:b/0 SourceAccessPoint=ap\n",
		  "iqn.2026-01.a:b/0", "iqn.2026-01.a:b", 0 },
		{ "SyncType=Clone\nSourceAccessPoint=ap\n"
		  "SourceElement=eui.0123456789abcdef/016383\n[Run]\n",
		  "eui.0123456789abcdef/16383", "eui.0123456789abcdef", 16383 },
		{ "SyncType=Clone SourceElement=iqn.2026-01.a:b=;c/1 SourceAccessPoint=ap\n",
		  "iqn.2026-01.a:b=;c/1", "iqn.2026-01.a:b=;c", 1 },
		{ "SyncType=Clone SourceElement=" LONG "/1 SourceAccessPoint=ap\n",
		  LONG "/1", LONG, 1 },
		{ "SyncType=Clone SourceElement=e SourceAccessPoint=ap\n", "e", NULL, 0 },
		{ "SyncType=Clone SourceGroup=g SourceAccessPoint=ap\n", "", NULL, 0 },
	};
	struct outcome outcome;
	struct spec spec;

	for (size_t i = 0; i < ROWS(rows); i++) {
		CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
		char target[ISCSINAME_MAX_LEN + 1] = "";
		unsigned lun = 0;

		ROW_EQ(rows[i].text, parse(rows[i].text, &spec, &outcome), 0);
		ROW_STR_EQ(rows[i].text, spec.source_access_point, "ap");
		ROW_STR_EQ(rows[i].text, spec.source_element, rows[i].source);
		ROW_EQ(rows[i].text, spec_source_lun(&spec, target, &lun),
		       rows[i].target != NULL);
		ROW_STR_EQ(rows[i].text, target, rows[i].target ? rows[i].target : "");
		ROW_EQ(rows[i].text, lun, rows[i].lun);
		spec_format(&spec, &b);
		spec_done(&spec);
		ROW_EQ(rows[i].text, parse(b.s, &spec, &outcome), 0);
		ROW_STR_EQ(rows[i].text, spec.source_element, rows[i].source);
		spec_done(&spec);
	}
	ck_assert_int_eq(parse("TargetAccessPoint=ap TargetGroup=t" G, &spec, &outcome),
			 0);
	ck_assert_str_eq(spec.target_access_point, "ap");
	spec_done(&spec);
	ck_assert(spec_supports("SourceAccessPoint", 0));
	ck_assert(spec_supports("TargetAccessPoint", 0));
}
END_TEST

struct refusal {
	const char *text;
	uint32_t code;
	int error;
	const char *sentence; /* part of it */
};

static void check_refusals(const struct refusal *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
		struct outcome outcome = { 0 };
		struct spec spec;

		memset(&spec, 0xee, sizeof(spec));
		ROW_EQ(rows[i].text, parse(rows[i].text, &spec, &outcome),
		       -rows[i].error);
		ROW_EQ(rows[i].text, outcome.code, rows[i].code);
		ROW_EQ(rows[i].text, outcome.error, rows[i].error);
		ROW_HAS(rows[i].text, outcome.sentence, rows[i].sentence);
		ck_assert_uint_lt(strlen(outcome.sentence), OUTCOME_SENTENCE_MAX - 1);
		spec_format(&spec, &b);
		ROW_STR_EQ(rows[i].text, b.s, "[Run]\n");
	}
}

START_TEST(a_text_that_is_not_whole_is_refused)
{
	static const struct refusal rows[] = {
		{ "", 5, EINVAL, "does not end with a newline; one write is one call" },
		{ "\n", 5, EINVAL, "single line without parameters" },
		{ " \n", 5, EINVAL, "single line without parameters" },
		{ "SyncType=Clone SourceGroup=prod", 5, EINVAL,
		  "does not end with a newline" },
		{ "SyncType=Clone\n", 5, EINVAL,
		  "with one parameter; one write is one call" },
		{ "[Run]\n", 5, EINVAL, "single line without parameters" },
		{ "# comment\n", 5, EINVAL, "single line without parameters" },
		{ "; SyncType=Clone SourceGroup=g\n", 5, EINVAL, "single line without" },
		{ "[ReplicationSettingData]\n", 5, EINVAL, "single line without" },
		{ INI, 5, EINVAL, "last line of the text is not [Run]" },
		{ INI "[Run]", 5, EINVAL, "does not end with a newline" },
		{ INI "[Run]\n\n", 5, EINVAL, "last line of the text is not [Run]" },
		{ INI "[Run] \n", 5, EINVAL, "last line of the text is not [Run]" },
		{ INI " [Run]\n", 5, EINVAL, "last line of the text is not [Run]" },
		{ INI "[run]\n", 5, EINVAL, "last line of the text is not [Run]" },
		{ INI "# [Run]\n", 5, EINVAL, "last line of the text is not [Run]" },
		{ INI "[Run]\n[Run]\n", 5, EINVAL, "line 4: text after [Run]" },
		{ "[Run]\n" INI "[Run]\n", 5, EINVAL, "line 2: text after [Run]" },
		{ "SyncType=Clone SourceGroup=g\nSyncType=Clone SourceGroup=g\n", 5,
		  EINVAL, "last line of the text is not [Run]" },
		{ "hello\n", 5, EINVAL, "\"hello\": no = in it" },
		{ "SyncType=Clone prod\n", 5, EINVAL, "\"prod\": no = in it" },
		{ "SyncType = Clone\n", 5, EINVAL, "\"SyncType\": a blank before the =" },
		{ "SyncType =Clone\n", 5, EINVAL, "\"SyncType\": a blank before the =" },
		{ "SyncType= Clone\n", 5, EINVAL, "\"Clone\": no = in it" },
		{ "=Clone SourceGroup=g\n", 5, EINVAL,
		  "\"=Clone\": no parameter before" },
		{ "Consistency=No Consistency\n", 5, EINVAL,
		  "\"Consistency\": no = in it" },
		{ "SyncType=\"Clone SourceGroup=g\n", 5, EINVAL,
		  "no closing double quote" },
		{ "SyncType=\"Clone\"SourceGroup=g\n", 5, EINVAL,
		  "text after the closing" },
		{ "SyncType=\"Clone\"\"\" SourceGroup=g\n", 5, EINVAL,
		  "text after the closing" },
		{ "SyncType=Clo\"ne\" SourceGroup=g\n", 5, EINVAL,
		  "double quote within" },
		{ "\"SyncType=Clone\" SourceGroup=g\n", 5, EINVAL,
		  "double quote within" },
		{ "SyncType=Clone\rSourceGroup=g\n", 5, EINVAL, "carriage return" },
		{ "SyncType=Clone SourceGroup=g\r\n", 5, EINVAL,
		  "line 1: a carriage return" },
		{ "SyncType=Clone SourceGroup=g\x1b\n", 5, EINVAL,
		  "control character (0x1b)" },
		{ "SyncType=Clone\nMode=\x7f\n[Run]\n", 5, EINVAL, "line 2: a control" },
		{ "SyncType=Clone\n SourceGroup=g\n[Run]\n", 5, EINVAL,
		  "line 2: the line begins with a blank" },
		{ "SyncType=Clone\nSourceGroup\n[Run]\n", 5, EINVAL, "line 2: no =" },
		{ "SyncType: Clone\nSourceGroup=g\n[Run]\n", 5, EINVAL, "line 1: a :" },
		{ INI "[Run\n[Run]\n", 5, EINVAL,
		  "line 3: the section has no closing ]" },
		{ INI "[Goal]\n[Run]\n", 5, EINVAL, "line 3: unknown section \"Goal\"" },
		{ INI "[ReplicationSettingsData]\n[Run]\n", 5, EINVAL,
		  "did you mean \"ReplicationSettingData\"?" },
		{ INI "[TargetSettingGoal]\n[TargetSettingGoal]\n[Run]\n", 5, EINVAL,
		  "line 4: [TargetSettingGoal] is given twice, in line 3 and here" },
	};

	check_refusals(rows, ROWS(rows));
}
END_TEST

START_TEST(unknown_and_repeated_parameters_are_refused)
{
	static const struct refusal rows[] = {
		{ "SyncTyp=Clone SourceGroup=g\n", 5, EINVAL,
		  "unknown parameter \"SyncTyp\"; did you mean \"SyncType\"?" },
		{ "synctype=Clone SourceGroup=g\n", 5, EINVAL,
		  "did you mean \"SyncType\"?" },
		{ "Zzz=1" G, 5, EINVAL,
		  "unknown parameter \"Zzz\"; valid: RelationshipName" },
		{ "Job=1" G, 5, EINVAL, "Job is an output" },
		{ "Synchronization=1" G, 5, EINVAL, "Synchronization is an output" },
		{ "OnGroupOrListError=Stop" G, 5, EINVAL, "[ReplicationSettingData]" },
		{ "SyncType=Clone" G, 5, EINVAL, "SyncType is given twice; keep one" },
		{ "TargetPool=a TargetPool=a" G, 5, EINVAL, "TargetPool is given twice" },
		{ INI "Mode=3\nMode=3\n[Run]\n", 5, EINVAL,
		  "Mode is given twice, in line 3 and line 4" },
		{ "TargetPool=" G, 5, EINVAL, "TargetPool has no value" },
		{ "TargetPool=\"\"" G, 5, EINVAL, "TargetPool has no value" },
		{ INI "TargetPool =\n[Run]\n", 5, EINVAL, "TargetPool has no value" },
		{ INI "[ReplicationSettingData]\nPairng=2\n[Run]\n", 5, EINVAL,
		  "[ReplicationSettingData]: unknown property \"Pairng\"; did you mean "
		  "\"Pairing\"?" },
		{ INI "[ReplicationSettingData]\nquiesce_command=reboot\n[Run]\n", 5,
		  EINVAL, "unknown property \"quiesce_command\"" },
		{ INI "[ReplicationSettingData]\nInstanceID=1\n[Run]\n", 5, EINVAL,
		  "inherited property InstanceID" },
		{ INI "[ReplicationSettingData]\nPairing=2\nPairing=2\n[Run]\n", 5,
		  EINVAL, "Pairing is given twice, in line 4 and line 5" },
		{ INI "[ReplicationSettingData]\nTargetPool=p\n[Run]\n", 5, EINVAL,
		  "unknown property" },
		{ INI "[TargetSettingGoal]\nPairing=2\n[Run]\n", 5, EINVAL,
		  "[TargetSettingGoal]: unknown property \"Pairing\"; valid: "
		  "ThinProvisioningPolicy, ReadOnly" },
		/* before any value is looked at */
		{ "SyncType=Klone SourceGroup=g Zzz=1\n", 5, EINVAL,
		  "unknown parameter" },
	};

	check_refusals(rows, ROWS(rows));
}
END_TEST

START_TEST(wrong_values_are_refused)
{
	static const struct refusal rows[] = {
		{ "SyncType=Klone SourceGroup=g\n", 5, EINVAL,
		  "SyncType: \"Klone\" is not one of its values; did you mean \"Clone\"?" },
		{ "SyncType=0 SourceGroup=g\n", 5, EINVAL,
		  "valid: Mirror, Snapshot, Clone, TokenizedClone" },
		{ "SyncType=5 SourceGroup=g\n", 5, EINVAL, "SyncType: \"5\"" },
		{ "SyncType=10 SourceGroup=g\n", 5, EINVAL, "SyncType: \"10\"" },
		{ "SyncType=31 SourceGroup=g\n", 5, EINVAL, "SyncType: \"31\"" },
		{ "SyncType=32 SourceGroup=g\n", 5, EINVAL, "SyncType: \"32\"" },
		{ "SyncType=40 SourceGroup=g\n", 5, EINVAL, "SyncType: \"40\"" },
		{ "SyncType=32767 SourceGroup=g\n", 5, EINVAL, "SyncType: \"32767\"" },
		{ "SyncType=65536 SourceGroup=g\n", 5, EINVAL, "SyncType: \"65536\"" },
		{ "SyncType=-8 SourceGroup=g\n", 5, EINVAL, "SyncType: \"-8\"" },
		{ "Mode=0" G, 5, EINVAL, "valid: Synchronous, Asynchronous, Adaptive" },
		{ "Mode=1" G, 5, EINVAL, "Mode: \"1\"" },
		{ "Mode=5" G, 5, EINVAL, "Mode: \"5\"" },
		{ "Mode=Active" G, 5, EINVAL, "Mode: \"Active\"" },
		{ "Mode=32767" G, 5, EINVAL, "Mode: \"32767\"" },
		{ "Consistency=1" G, 5, EINVAL, "valid: No Consistency, Sequential" },
		{ "Consistency=4" G, 5, EINVAL, "Consistency: \"4\"" },
		{ "Consistency=\"Sequentially Consistent\"" G, 5, EINVAL,
		  "did you mean \"Sequential Consistency\"?" },
		{ "WaitForCopyState=Broken" G, 5, EINVAL,
		  "WaitForCopyState: \"Broken\"" },
		{ "WaitForCopyState=5" G, 5, EINVAL, "not one of its values" },
		{ "WaitForCopyState=18" G, 5, EINVAL, "WaitForCopyState: \"18\"" },
		{ "WaitForCopyState=Synchronised" G, 5, EINVAL,
		  "did you mean \"Synchronized\"?" },
		{ "SyncType=Clone SourceGroup=a/b\n", 5, EINVAL,
		  "SourceGroup: \"a/b\" is no name" },
		{ "SyncType=Clone SourceGroup=.a\n", 5, EINVAL, "SourceGroup: \".a\"" },
		{ "SyncType=Clone SourceGroup=-a\n", 5, EINVAL, "SourceGroup: \"-a\"" },
		{ "SyncType=Clone SourceGroup=\xc3\xa4\n", 5, EINVAL,
		  "SourceGroup: \"\\xc3\\xa4\"" },
		{ "SyncType=Clone\nSourceGroup=\"g\"\n[Run]\n", 5, EINVAL,
		  "line 2: SourceGroup=\"\"g\"\": quotes have no meaning in an INI text" },
		{ INI "[ReplicationSettingData]\nPairing=\"Exact order\"\n[Run]\n", 5,
		  EINVAL, "line 4: Pairing=" },
		{ "SyncType=Clone SourceGroup=" A32 "x\n", 5, ENAMETOOLONG,
		  "has 33 bytes; 32 is the limit" },
		{ "SyncType=Clone SourceElement=" A32 "_12345678\n", 5, ENAMETOOLONG,
		  "has 41 bytes; 40 is the limit" },
		{ "RelationshipName=" A32 "x" G, 5, ENAMETOOLONG, "RelationshipName" },
		{ "TargetPool=" A32 "x" G, 5, ENAMETOOLONG, "TargetPool" },
		{ "TargetPool=\"a b\"" G, 5, EINVAL, "TargetPool: \"a b\"" },
		{ "TargetGroup=a/b" G, 5, EINVAL, "TargetGroup: \"a/b\"" },
		{ "SourceAccessPoint=a/b" E, 5, EINVAL, "SourceAccessPoint" },
		{ "TargetAccessPoint=a/b" E, 5, EINVAL, "TargetAccessPoint" },
		{ "ReplicationSettingData=a/b" G, 5, EINVAL, "ReplicationSettingData" },
		{ "TargetSettingGoal=a/b" G, 5, EINVAL, "TargetSettingGoal" },
		{ "TargetElementCount=0" E, 5, EINVAL, "write 1 or more" },
		{ "TargetElementCount=-1" E, 5, EINVAL, "TargetElementCount: \"-1\"" },
		{ "TargetElementCount=two" E, 5, EINVAL, "TargetElementCount: \"two\"" },
		{ "TargetElementCount=18446744073709551616" E, 5, EINVAL,
		  "TargetElementCount" },
		{ "SyncType=Clone SourceElement=iqn.2026-01.a:b/0\n", 5, EINVAL,
		  "need SourceAccessPoint" },
		{ "SourceAccessPoint=a SyncType=Clone SourceElement=iqn.2026-01.a:b/x\n",
		  5, EINVAL, "is not <iqn>/<lun>" },
		{ "SourceAccessPoint=a SyncType=Clone SourceElement=disk/0\n", 5, EINVAL,
		  "is not <iqn>/<lun>" },
		{ "SourceAccessPoint=a SyncType=Clone SourceElement=iqn.2026-01.a:b/16384\n",
		  5, EINVAL, "a LUN from 0 to 16383" },
		{ "SourceAccessPoint=a SyncType=Clone SourceElement=iqn.2026-01.a:b/\n",
		  5, EINVAL, "is not <iqn>/<lun>" },
		{ "SourceAccessPoint=a SyncType=Clone SourceElement=" LONG "/10\n", 5,
		  ENAMETOOLONG, "has 186 bytes; 185 is the limit" },
		{ "SourceAccessPoint=a SyncType=Clone SourceElement=" A32 "_12345678\n",
		  5, ENAMETOOLONG, "has 41 bytes; 40 is the limit" },
		{ "SourceAccessPoint=" A32 "x" E, 5, ENAMETOOLONG, "SourceAccessPoint" },
		{ "TargetAccessPoint=" A32 "x" E, 5, ENAMETOOLONG, "TargetAccessPoint" },
		{ INI "[ReplicationSettingData]\nPairing=9\n[Run]\n", 5, EINVAL,
		  "[ReplicationSettingData]: Pairing: \"9\" is not one of its values" },
		{ INI "[ReplicationSettingData]\nMaximumSkew=9\n[Run]\n", 5, EINVAL,
		  "read-only" },
		{ INI "[TargetSettingGoal]\nReadOnly=no\n[Run]\n", 5, EINVAL,
		  "[TargetSettingGoal]: ReadOnly" },
	};

	check_refusals(rows, ROWS(rows));
}
END_TEST

START_TEST(exclusions_are_refused)
{
	static const struct refusal rows[] = {
		{ "SourceGroup=g Mode=3\n", 5, EINVAL, "SyncType is missing" },
		{ "SyncType=Clone Mode=3\n", 5, EINVAL, "are both missing" },
		{ "SourceElement=e" G, 5, EINVAL,
		  "SourceGroup=g and SourceElement=\"e\" exclude each other" },
		{ "TargetElementCount=1" G, 5, EINVAL, "excludes SourceGroup" },
		{ "TargetElementCount=1 TargetGroup=t" E, 5, EINVAL,
		  "excludes TargetGroup" },
		{ "TargetGroup=g" G, 5, EINVAL,
		  "TargetGroup=g is the source group itself" },
		{ INI
		  "ReplicationSettingData=s\n[ReplicationSettingData]\nPairing=2\n[Run]\n",
		  5, EINVAL, "exclude each other" },
		{ INI "TargetSettingGoal=s\n[TargetSettingGoal]\nReadOnly=2\n[Run]\n", 5,
		  EINVAL, "exclude each other" },
	};

	check_refusals(rows, ROWS(rows));
}
END_TEST

START_TEST(what_is_valid_but_later_is_not_supported)
{
	static const struct refusal rows[] = {
		{ "SyncType=Mirror SourceGroup=g\n", 1, EOPNOTSUPP,
		  "SyncType: Mirror is not supported by this version of LunFS; valid: Snapshot, "
		  "Clone" },
		{ "SyncType=tokenizedclone SourceGroup=g\n", 1, EOPNOTSUPP,
		  "TokenizedClone" },
		{ "SyncType=32768 SourceGroup=g\n", 1, EOPNOTSUPP,
		  "32768 is a vendor's value" },
		{ "SyncType=65535 SourceGroup=g\n", 1, EOPNOTSUPP,
		  "65535 is a vendor's value" },
		{ "Mode=4" G, 1, EOPNOTSUPP, "Mode: Adaptive is not supported" },
		{ "Mode=32770" G, 1, EOPNOTSUPP, "Mode: 32770 is a vendor's value" },
		{ "TargetElementCount=257" E, 1, EOPNOTSUPP, "TargetElementCount: 257" },
		{ INI "[ReplicationSettingData]\nTimeBeforeRemoval="
		      "00000000000500.000000:000\n[Run]\n",
		  1, EOPNOTSUPP,
		  "[ReplicationSettingData]: TimeBeforeRemoval=00000000000500.000000:000: "
		  "the property is not supported for a Clone" },
		{ INI "[ReplicationSettingData]\nAutoDelete=true\n[Run]\n", 1, EOPNOTSUPP,
		  "[ReplicationSettingData]: AutoDelete: true is not supported for a Clone "
		  "by this version of LunFS; supported: false" },
		{ INI "[ReplicationSettingData]\nPairing=40000\n[Run]\n", 1, EOPNOTSUPP,
		  "Pairing: 40000 is a vendor's value" },
		{ INI "[TargetSettingGoal]\nReadOnly=Both\n[Run]\n", 1, EOPNOTSUPP,
		  "[TargetSettingGoal]: ReadOnly: Both is not supported for a Clone by this "
		  "version of LunFS; supported: SyncedElement" },
		/* the first in the method's order is told */
		{ "TargetGroup=t Mode=4 SourceGroup=g SyncType=Mirror\n", 1, EOPNOTSUPP,
		  "SyncType: Mirror" },
	};

	check_refusals(rows, ROWS(rows));
}
END_TEST

START_TEST(code_5_wins_over_code_1)
{
	static const struct refusal rows[] = {
		{ "SyncType=Mirror SourceGroup=a/b\n", 5, EINVAL, "SourceGroup" },
		{ "SyncType=Mirror SourceGroup=a Zzz=1\n", 5, EINVAL, "Zzz" },
		{ "SyncType=32768 Mode=5 SourceGroup=g\n", 5, EINVAL, "Mode" },
		{ "SyncType=Mirror Mode=3\n", 5, EINVAL, "both missing" },
		{ "SyncType=Snapshot SourceGroup=g SourceElement=e\n", 5, EINVAL,
		  "exclude" },
		{ "SyncType=Snapshot SourceGroup=g WaitForCopyState=6\n", 5, EINVAL,
		  "WaitForCopyState" },
		{ "Mode=4 SourceGroup=g\n", 5, EINVAL, "SyncType is missing" },
		{ "TargetGroup=t TargetElementCount=7" E, 5, EINVAL,
		  "excludes TargetGroup" },
		{ INI "[ReplicationSettingData]\nPairing=40000\nMultihop=x\n[Run]\n", 5,
		  EINVAL, "Multihop" },
		{ INI
		  "[ReplicationSettingData]\nPairing=2\n[TargetSettingGoal]\nReadOnly=9\n"
		  "[Run]\n",
		  5, EINVAL, "ReadOnly" },
	};

	check_refusals(rows, ROWS(rows));
}
END_TEST

START_TEST(long_and_binary_texts_are_refused)
{
	enum { MAX = 64 * 1024 };
	char *text = malloc(MAX + 1);
	struct outcome outcome;
	struct spec spec;
	const char *valid = "SyncType=Clone SourceGroup=g";

	memset(text, ' ', MAX + 1);
	memcpy(text, valid, strlen(valid));
	text[MAX - 1] = '\n';
	ck_assert_int_eq(spec_parse(text, MAX, &spec, &outcome), 0);
	spec_done(&spec);
	text[MAX - 1] = ' ';
	text[MAX] = '\n';
	ck_assert_int_eq(spec_parse(text, MAX + 1, &spec, &outcome), -E2BIG);
	ck_assert_uint_eq(outcome.code, 5);
	memset(text, 'x', MAX);
	text[MAX - 1] = '\n';
	ck_assert_int_eq(spec_parse(text, MAX, &spec, &outcome), -EINVAL);
	memcpy(text, "SyncType=Clone SourceGroup=", 27);
	ck_assert_int_eq(spec_parse(text, MAX, &spec, &outcome), -ENAMETOOLONG);
	free(text);

	for (size_t at = 0; at < strlen(valid); at++) {
		char copy[64];

		snprintf(copy, sizeof(copy), "%s\n", valid);
		copy[at] = '\0';
		ck_assert_int_eq(spec_parse(copy, strlen(valid) + 1, &spec, &outcome),
				 -EINVAL);
		ROW_HAS("NUL", outcome.sentence, "line 1: a NUL byte");
	}
	ck_assert_int_eq(
		parse("SyncType=Clone\nSourceGroup=g\n# "
		      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		      "\n[Run]\n",
		      &spec, &outcome),
		-EINVAL);
	ROW_HAS("long line", outcome.sentence, "line 3: the line has 250 bytes");
}
END_TEST

START_TEST(every_beginning_of_a_text_is_refused)
{
	static const char *const texts[] = {
		"SyncType=Clone SourceGroup=prod WaitForCopyState=4\n",
		"# c\nSyncType=Clone\n\nSourceGroup=prod\nMode=3\n[Run]\n",
	};

	for (size_t i = 0; i < ROWS(texts); i++)
		for (size_t len = 0; len < strlen(texts[i]); len++) {
			struct outcome outcome;
			struct spec spec;

			ck_assert_int_eq(spec_parse(texts[i], len, &spec, &outcome),
					 -EINVAL);
			ROW_HAS("beginning", outcome.sentence, "one write is one call");
		}
}
END_TEST

START_TEST(later_values_have_a_canonical_text_too)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	char properties[] = "Pairing=Exact order\n";
	char goal[] = "ThinProvisioningPolicy=Copy full source to thin target\n";
	char name[] = "thin";
	struct outcome outcome;
	struct spec parsed;
	struct spec spec = {
		.relationship_name = "r",
		.sync_type = CIM_SYNC_MIRROR,
		.mode = CIM_MODE_ADAPTIVE,
		.source_element = "e",
		.source_access_point = "a",
		.target_group = "t",
		.target_element_count = 3,
		.target_access_point = "b",
		.setting_properties = properties,
		.target_setting_goal = goal,
	};

	spec_format(&spec, &b);
	ck_assert_str_eq(
		b.s, "RelationshipName=r\nSyncType=Mirror\nMode=Adaptive\n"
		     "SourceElement=e\nSourceAccessPoint=a\nTargetGroup=t\n"
		     "TargetElementCount=3\nTargetAccessPoint=b\n"
		     "[ReplicationSettingData]\nPairing=Exact order\n"
		     "[TargetSettingGoal]\n"
		     "ThinProvisioningPolicy=Copy full source to thin target\n[Run]\n");
	strcpy(spec.setting, "s");
	spec.setting_properties = NULL;
	spec.target_setting_goal = name;
	spec.target_element_count = 0;
	strbuf_reset(&b);
	spec_format(&spec, &b);
	ck_assert_str_eq(b.s, "RelationshipName=r\nSyncType=Mirror\nMode=Adaptive\n"
			      "SourceElement=e\nSourceAccessPoint=a\nTargetGroup=t\n"
			      "TargetAccessPoint=b\nReplicationSettingData=s\n"
			      "TargetSettingGoal=thin\n[Run]\n");
	ck_assert_int_eq(parse(b.s, &parsed, &outcome), -EOPNOTSUPP);
}
END_TEST

START_TEST(the_parameters_are_those_of_the_method)
{
	static const char *const names[] = {
		"RelationshipName",
		"SyncType",
		"Mode",
		"SourceGroup",
		"SourceElement",
		"SourceAccessPoint",
		"TargetGroup",
		"TargetElementCount",
		"TargetAccessPoint",
		"Consistency",
		"ReplicationSettingData",
		"Job",
		"Synchronization",
		"TargetSettingGoal",
		"TargetPool",
		"WaitForCopyState",
	};

	ck_assert_uint_eq(spec_n_parameters, ROWS(names));
	for (size_t i = 0; i < ROWS(names); i++)
		ck_assert_str_eq(spec_parameters[i], names[i]);
}
END_TEST

START_TEST(fuzz_canonical_texts_read_back)
{
	static const char *const valid[] = {
		"SourceGroup=prod SyncType=Clone\n",
		"RelationshipName=r SyncType=8 Mode=3 SourceElement=e TargetElementCount=1 "
		"Consistency=\"No Consistency\" TargetPool=p WaitForCopyState=4\n",
		"# c\nSyncType = Clone\nSourceGroup = prod\nMode=2\nTargetPool=a.b-c\n[Run]\n",
		"SourceAccessPoint=ap SyncType=Clone SourceElement=iqn.2026-01.a:b/12\n",
		INI
		"[ReplicationSettingData]\nPairing=2\n[TargetSettingGoal]\nReadOnly=2\n"
		"[Run]\n",
	};
	struct unit_random random = unit_random_start("spec");
	unsigned n_valid = 0;

	for (unsigned round = 0; round < 15000; round++) {
		CLEANUP_STRBUF struct strbuf b = STRBUF_INIT, again = STRBUF_INIT;
		const char *start = valid[unit_random_below(&random, ROWS(valid))];
		struct outcome outcome;
		struct spec spec, spec2;
		char text[512];
		size_t len = strlen(start);
		int r;

		memcpy(text, start, len);
		len = unit_mutate(&random, text, len, sizeof(text));
		r = spec_parse(text, len, &spec, &outcome);
		if (r < 0) {
			ck_assert_int_eq(outcome.error, -r);
			ck_assert(outcome.code == 5 || outcome.code == 1);
			ck_assert_str_ne(outcome.sentence, "");
			for (const char *c = outcome.sentence; *c; c++)
				ck_assert(*c >= ' ' && *c < 0x7f);
			continue;
		}
		n_valid++;
		spec_format(&spec, &b);
		r = spec_parse(b.s, b.len, &spec2, &outcome);
		ck_assert_msg(!r, "%.*s -> %s: %s", (int)len, text, b.s,
			      outcome.sentence);
		spec_format(&spec2, &again);
		ck_assert_str_eq(b.s, again.s);
		spec_done(&spec);
		spec_done(&spec2);
	}
	ck_assert_uint_gt(n_valid, 100);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		one_line_and_ini_give_the_same_values,
		fields_hold_what_was_written,
		access_points_and_the_luns_at_them,
		a_text_that_is_not_whole_is_refused,
		unknown_and_repeated_parameters_are_refused,
		wrong_values_are_refused,
		exclusions_are_refused,
		what_is_valid_but_later_is_not_supported,
		code_5_wins_over_code_1,
		long_and_binary_texts_are_refused,
		every_beginning_of_a_text_is_refused,
		later_values_have_a_canonical_text_too,
		the_parameters_are_those_of_the_method,
		fuzz_canonical_texts_read_back,
	};

	return unit_main("spec", tests, ROWS(tests));
}
