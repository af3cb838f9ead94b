/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * ReplicationSettingData through the whole engine over files: as a section of a spec, and
 * as the name of a [setting]; that it is read back, survives a restart and a changed
 * configuration; and what its properties do.
 *
 * What these lines are for shows when they are broken; then these tests fail:
 *   instant.c, instant_is_one(): only the Consistency          one_instant_is_taken_...
 *   relation.c, breaks_alone(): false                          continue_lets_the_others_...
 *   relation.c, draft_last(): without broken                   the same
 *   suspend.c, suspend_repaired(): return                      a_manual_copy_is_...
 *   element.c, take_news(): repaired without el->status.logins a_manual_copy_goes_on_...
 */

#include "tests/unit.h"

#include <errno.h>
#include <fcntl.h>

#include "conf/cim.h"
#include "conf/timefmt.h"
#include "engine/fence_set.h"
#include "engine/model.h"
#include "tests/whole.h"

static unsigned char before[WHOLE_LUN];

/* Holds up the copy of element f. */
static const char slow_rules[] = "[slow]\nevent = read\noffset = 2097152\n"
				 "length = 65536\nstall = yes\n";
static const char away_rules[] = "[it]\nstate = away\n";
static const char medium_rules[] = "[bad]\nevent = read\noffset = 2097152\n"
				   "length = 65536\nerrno = ENODATA\n";

/* How many volumes each fence was closed over. */
static size_t fenced[64];
static unsigned n_fenced;

#define FENCE_PARAMETERS                                                                \
	struct engine *e, struct volume *const *volumes, size_t n, unsigned timeout_ms, \
		void (*ready)(struct fence_set *, void *, int), void *opaque,           \
		struct fence_set **ret_set

int __real_fence_set_close(FENCE_PARAMETERS);
int __wrap_fence_set_close(FENCE_PARAMETERS);

int __wrap_fence_set_close(FENCE_PARAMETERS)
{
	fenced[n_fenced++ % ROWS(fenced)] = n;
	return __real_fence_set_close(e, volumes, n, timeout_ms, ready, opaque, ret_set);
}

/* settings: sections of the configuration. */
static void setup(const char *settings)
{
	whole_daemon(settings);
	whole_setup();
	whole_until(whole_is_ready("f"));
}

#define RSD "\n[ReplicationSettingData]\n"

static void end(uint64_t g)
{
	whole_control(g, "ReturnToResourcePool", 0);
}

static void set_rules(const char *file, const char *text)
{
	FILE *f = fopen(whole_path("rules.new"), "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	ck_assert_int_eq(rename(whole_path("rules.new"), whole_path("%s", file)), 0);
}

/* ---- where it comes from ------------------------------------------------------------ */

START_TEST(a_section_is_read_back_in_its_canonical_form)
{
	static const char canonical[] =
		"RelationshipName=g\nSyncType=Clone\nSourceElement=a\n"
		"[ReplicationSettingData]\nConsistentPointInTime=true\n"
		"DesiredCopyMethodology=Snap-And-Clone\nCopyRecoveryMode=Manual\n[Run]\n";
	struct group_info info;
	uint64_t g;

	setup("");
	g = whole_make(ENGINE_GROUP, "g");
	whole_spec(g,
		   "SourceElement=a\nSyncType=8" RSD "CopyRecoveryMode=3\n"
		   "DesiredCopyMethodology=snap and clone\nConsistentPointInTime=yes",
		   CIM_RETURN_JOB_STARTED);
	ck_assert_str_eq(whole_list(ENGINE_GROUP, g, GROUP_SPEC), canonical);
	for (unsigned i = 0; i < 2; i++) {
		info = whole_info(g);
		ck_assert_uint_eq(info.copy_recovery_mode, CIM_RECOVERY_MANUAL);
		ck_assert(!info.failed_copy_stops_host_io);
		ck_assert_uint_eq(whole_pair(g, 1).copy_methodology,
				  CIM_METHODOLOGY_SNAP_AND_CLONE);
		whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
		whole_stop();
		ck_assert_int_eq(whole_start(), 0);
	}
	ck_assert_str_eq(whole_list(ENGINE_GROUP, g, GROUP_SPEC), canonical);
	/* What it says is taken again. */
	end(g);
	ck_assert_uint_eq(whole_put(g, GROUP_SPEC, canonical, NULL),
			  CIM_RETURN_JOB_STARTED);
	whole_teardown();
}
END_TEST

START_TEST(a_named_setting_stays_as_it_was_taken)
{
	struct engine_command cmd;
	uint64_t g;

	setup("\n[setting careful]\nCopyRecoveryMode = Manual\n"
	      "[setting later]\nDeltaUpdateInterval = 00000000000500.000000:000\n");
	g = whole_make(ENGINE_GROUP, "g");
	cmd = whole_spec(g,
			 "SourceElement=a\nSyncType=Clone\nReplicationSettingData=carful",
			 CIM_RETURN_INVALID_PARAMETER);
	ck_assert_int_eq(cmd.outcome.error, ENOENT);
	ROW_HAS("names", cmd.outcome.sentence, "settings: careful, later");
	cmd = whole_spec(g,
			 "SourceElement=a\nSyncType=Clone\nReplicationSettingData=later",
			 CIM_RETURN_NOT_SUPPORTED);
	ROW_HAS("later", cmd.outcome.sentence,
		"ReplicationSettingData=later: DeltaUpdateInterval");
	ck_assert(!whole_info(g).has_relationship);
	whole_spec(g, "SourceElement=a\nSyncType=Clone\nReplicationSettingData=careful",
		   CIM_RETURN_JOB_STARTED);
	ROW_HAS("spec", whole_list(ENGINE_GROUP, g, GROUP_SPEC),
		"\nReplicationSettingData=careful\n");
	ck_assert_uint_eq(whole_info(g).copy_recovery_mode, CIM_RECOVERY_MANUAL);
	/* Also when the configuration has it no longer. */
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_stop();
	whole_daemon("");
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_info(g).copy_recovery_mode, CIM_RECOVERY_MANUAL);
	whole_teardown();
}
END_TEST

START_TEST(what_is_refused_changes_nothing)
{
	static const struct {
		const char *text;
		unsigned code;
		const char *sentence;
	} rows[] = {
		{ "SourceElement=a\nSyncType=Clone" RSD "CopyRecoveryMode=Unknown", 1,
		  "CopyRecoveryMode: Unknown is not supported for a Clone" },
		{ "SourceElement=a\nSyncType=Clone" RSD "CopyRecoveryMode=7", 5,
		  "CopyRecoveryMode" },
		{ "SourceElement=a\nSyncType=Snapshot" RSD
		  "DesiredCopyMethodology=Full Copy",
		  1, "Full Copy is not supported for a Snapshot" },
		{ "SourceElement=a\nSyncType=Clone" RSD
		  "DesiredCopyMethodology=Copy-On-Write",
		  1, "supported: Instrumentation decides, Full Copy, Snap-And-Clone" },
		{ "SourceElement=s\nSyncType=Clone" RSD
		  "DesiredCopyMethodology=Snap-And-Clone",
		  1, "member \"s\" is shared" },
		{ "SourceElement=s\nSyncType=Clone" RSD "ConsistentPointInTime=true", 1,
		  "shared_method = none" },
		{ "SourceElement=a\nSyncType=Clone" RSD
		  "DeltaUpdateInterval=00000000000500.000000:000",
		  1, "DeltaUpdateInterval=00000000000500.000000:000: the property" },
		{ "SourceElement=a\nSyncType=Clone" RSD "Multihop=2", 1,
		  "Multihop: 2 is not supported" },
		{ "SourceElement=a\nSyncType=Clone" RSD "FailedCopyStopsHostIO=true", 1,
		  "supported: false" },
		{ "SourceElement=a\nSyncType=Clone" RSD "OnGroupOrListError=Continue", 5,
		  "add Consistency=No Consistency" },
		{ "SourceElement=a\nSyncType=Clone\nConsistency=3" RSD
		  "OnGroupOrListError=Continue",
		  5, "excludes Sequential Consistency" },
	};
	uint64_t g;

	setup("");
	g = whole_make(ENGINE_GROUP, "g");
	for (size_t i = 0; i < ROWS(rows); i++) {
		struct engine_command cmd = whole_spec(g, rows[i].text, rows[i].code);

		ROW_HAS(rows[i].text, cmd.outcome.sentence, rows[i].sentence);
		ck_assert(!whole_info(g).has_relationship);
		ck_assert_uint_eq(whole_files("e") + whole_files("p"), 0);
		ck_assert_uint_eq(whole_element("g_1"), 0);
	}
	whole_teardown();
}
END_TEST

/* ---- ConsistentPointInTime ----------------------------------------------------------- */

static void check_fences(uint64_t g, const char *text, unsigned n, size_t each)
{
	n_fenced = 0;
	whole_spec(g, text, 0);
	ROW_EQ(text, n_fenced, n);
	for (unsigned i = 0; i < n; i++)
		ROW_EQ(text, fenced[i], each);
	/* And whenever it takes another. */
	n_fenced = 0;
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	ROW_EQ(text, n_fenced, n);
	for (unsigned i = 0; i < n; i++)
		ROW_EQ(text, fenced[i], each);
	end(g);
}

START_TEST(one_instant_is_taken_where_it_is_asked_for)
{
	uint64_t g;

	setup("");
	whole_group("prod", "a b c");
	g = whole_make(ENGINE_GROUP, "g");
	check_fences(g, "SourceGroup=prod\nSyncType=Snapshot", 1, 3);
	check_fences(g, "SourceGroup=prod\nSyncType=Snapshot\nConsistency=2", 3, 1);
	check_fences(g,
		     "SourceGroup=prod\nSyncType=Snapshot\nConsistency=2" RSD
		     "ConsistentPointInTime=true",
		     1, 3);
	check_fences(g,
		     "SourceGroup=prod\nSyncType=Snapshot\nConsistency=2" RSD
		     "ConsistentPointInTime=false",
		     3, 1);
	/* What is not asked for may be had all the same. */
	check_fences(g,
		     "SourceGroup=prod\nSyncType=Snapshot\nConsistency=3" RSD
		     "ConsistentPointInTime=false",
		     1, 3);
	whole_teardown();
}
END_TEST

/* ---- OnGroupOrListError --------------------------------------------------------------- */

static uint64_t make_failing(const char *on_error)
{
	uint64_t g;
	char text[256];

	setup("");
	whole_content("a", before);
	whole_group("prod", "a f b");
	g = whole_make(ENGINE_GROUP, "g");
	whole_rules(medium_rules);
	snprintf(text, sizeof(text),
		 "SourceGroup=prod\nSyncType=Clone\nConsistency=2" RSD
		 "OnGroupOrListError=%s",
		 on_error);
	whole_spec(g, text, CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_EXCEPTION);
	ck_assert_uint_eq(whole_job(g).error_code, CIM_RETURN_FAILED);
	ck_assert_uint_eq(whole_pair(g, 2).copy_state, CIM_COPY_BROKEN);
	ROW_HAS("error", whole_pair(g, 2).error, "medium error");
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_SYNCHRONIZED, 0), -EIO);
	return g;
}

START_TEST(stop_breaks_all_with_one)
{
	uint64_t g = make_failing("Stop");

	ck_assert_uint_eq(whole_state(g), CIM_COPY_BROKEN);
	ck_assert_str_eq(whole_pair(g, 1).error, "member f broke");
	ck_assert_str_eq(whole_pair(g, 3).error, "member f broke");
	whole_teardown();
}
END_TEST

START_TEST(continue_lets_the_others_end)
{
	uint64_t g = make_failing("Continue");

	ck_assert_uint_eq(whole_state(g), CIM_COPY_MIXED);
	ROW_HAS("job", whole_job(g).error_description, "member f broke: ");
	for (unsigned n = 1; n <= 3; n += 2) {
		ck_assert_uint_eq(whole_pair(g, n).copy_state, CIM_COPY_SYNCHRONIZED);
		ck_assert_uint_eq(whole_pair(g, n).percent_synced, 100);
		ck_assert_int_ne(whole_pair(g, n).when_synced, 0);
		ck_assert_str_eq(whole_pair(g, n).error, "");
	}
	ck_assert_int_eq(whole_info(g).when_synced, 0);
	ck_assert_int_eq(whole_info(g).when_synchronized, 0);
	whole_is("g_1", before);
	/* It stays so, and another copy makes all good. */
	whole_stop();
	whole_rules("");
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_MIXED);
	whole_until(whole_is_ready("f"));
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_content("f", before);
	whole_is("g_2", before);
	whole_teardown();
}
END_TEST

/* One breaks while others are copied still: they can be suspended beside it. */
START_TEST(beside_a_broken_member_the_copy_can_be_suspended)
{
	uint64_t g;

	setup("");
	whole_add_faulty("h", WHOLE_LUN);
	whole_fill("h", 2097152 / WHOLE_CHUNK, 1);
	whole_group("prod", "f h");
	whole_rules(slow_rules);
	set_rules("h.rules", medium_rules);
	g = whole_make(ENGINE_GROUP, "g");
	whole_spec(g,
		   "SourceGroup=prod\nSyncType=Clone\nConsistency=2" RSD
		   "OnGroupOrListError=Continue",
		   CIM_RETURN_JOB_STARTED);
	whole_until(whole_pair(g, 2).copy_state == CIM_COPY_BROKEN);
	ck_assert_uint_eq(whole_pair(g, 1).copy_state, CIM_COPY_UNSYNCHRONIZED);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	whole_control(g, "Suspend", 0);
	ck_assert_uint_eq(whole_pair(g, 1).copy_state, CIM_COPY_SUSPENDED);
	whole_rules("");
	whole_control(g, "Resume", 0);
	whole_until(whole_pair(g, 1).copy_state == CIM_COPY_SYNCHRONIZED);
	whole_until(whole_job(g).state == CIM_JOB_EXCEPTION);
	whole_teardown();
}
END_TEST

/* A member of a Snapshot that detaches: the others are Snapshots again, and stay so. */
static void breaks_while_it_detaches(bool suspended)
{
	uint64_t g;

	setup("");
	whole_add_faulty("h", WHOLE_LUN);
	whole_fill("h", 2097152 / WHOLE_CHUNK, 1);
	whole_group("prod", "f h");
	g = whole_make(ENGINE_GROUP, "g");
	whole_content("f", before);
	whole_spec(g,
		   "SourceGroup=prod\nSyncType=Snapshot\nConsistency=2" RSD
		   "OnGroupOrListError=Continue",
		   0);
	whole_rules(slow_rules);
	set_rules("h.rules", slow_rules);
	whole_control(g, "Detach", CIM_RETURN_JOB_STARTED);
	if (suspended)
		whole_control(g, "Suspend", 0);
	set_rules("h.rules", medium_rules);
	whole_until(whole_pair(g, 2).copy_state == CIM_COPY_BROKEN);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_EXCEPTION);
	ck_assert_uint_eq(whole_pair(g, 1).copy_state, CIM_COPY_SYNCHRONIZED);
	ck_assert_uint_ne(whole_pair(g, 1).progress_status, CIM_PROGRESS_DETACHING);
	whole_rules("");
	whole_is("g_1", before);
	whole_fill("f", 3, 3);
	whole_is("g_1", before);
	ck_assert(whole_info(g).has_relationship);
	set_rules("h.rules", "");
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_content("f", before);
	whole_is("g_1", before);
	whole_teardown();
}

START_TEST(a_detach_ends_with_a_member_that_breaks)
{
	breaks_while_it_detaches(false);
}
END_TEST

START_TEST(so_does_a_detach_that_is_suspended)
{
	breaks_while_it_detaches(true);
}
END_TEST

/* ---- CopyRecoveryMode ------------------------------------------------------------------ */

static uint64_t lose_connection(const char *mode)
{
	uint64_t g;
	char text[256];

	setup("");
	whole_content("f", before);
	g = whole_make(ENGINE_GROUP, "g");
	whole_rules(slow_rules);
	snprintf(text, sizeof(text),
		 "SourceElement=f\nSyncType=Clone" RSD "CopyRecoveryMode=%s", mode);
	whole_spec(g, text, CIM_RETURN_JOB_STARTED);
	whole_until(whole_info(g).percent_synced > 0);
	whole_rules(away_rules);
	whole_until(!whole_is_ready("f"));
	/* It breaks nothing. */
	ck_assert_uint_eq(whole_state(g), CIM_COPY_UNSYNCHRONIZED);
	whole_rules(slow_rules);
	return g;
}

START_TEST(a_manual_copy_is_suspended_by_a_new_login)
{
	uint64_t g = lose_connection("Manual");

	whole_wait_state(g, CIM_COPY_SUSPENDED);
	ck_assert_int_ne(whole_info(g).when_suspended, 0);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_SUSPENDED);
	whole_rules("");
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	whole_until(whole_is_ready("f"));
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SUSPENDED);
	whole_control(g, "Resume", 0);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_is("g_1", before);
	whole_teardown();
}
END_TEST

START_TEST(an_automatic_copy_goes_on)
{
	static const char *const modes[] = { "Automatic", "Implementation decides" };

	for (size_t i = 0; i < ROWS(modes); i++) {
		uint64_t g = lose_connection(modes[i]);

		ck_assert_uint_eq(whole_info(g).copy_recovery_mode,
				  CIM_RECOVERY_AUTOMATIC);
		whole_until(whole_is_ready("f"));
		whole_rules("");
		whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
		ck_assert_int_eq(whole_info(g).when_suspended, 0);
		whole_is("g_1", before);
		whole_teardown();
	}
}
END_TEST

/* So does that of a target. */
START_TEST(a_manual_copy_is_suspended_by_a_login_of_its_target)
{
	static const char stall_writes[] = "[w]\nevent = write zero\nstall = yes\n";
	uint64_t g;

	setup("");
	whole_content("a", before);
	whole_group("lun", "f");
	whole_rules(stall_writes);
	g = whole_make(ENGINE_GROUP, "g");
	whole_spec(g,
		   "SourceElement=a\nSyncType=Clone\nTargetGroup=lun" RSD
		   "CopyRecoveryMode=Manual",
		   CIM_RETURN_JOB_STARTED);
	whole_rules(away_rules);
	whole_until(!whole_is_ready("f"));
	whole_rules(stall_writes);
	whole_wait_state(g, CIM_COPY_SUSPENDED);
	whole_rules("");
	whole_control(g, "Resume", 0);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_is("f", before);
	whole_teardown();
}
END_TEST

/* The first login of a process repairs nothing. */
START_TEST(a_manual_copy_goes_on_after_a_restart)
{
	uint64_t g;

	setup("");
	g = whole_make(ENGINE_GROUP, "g");
	whole_rules(slow_rules);
	whole_spec(g, "SourceElement=f\nSyncType=Clone" RSD "CopyRecoveryMode=Manual",
		   CIM_RETURN_JOB_STARTED);
	whole_until(whole_info(g).percent_synced > 0);
	whole_stop();
	whole_rules("");
	ck_assert_int_eq(whole_start(), 0);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	ck_assert_int_eq(whole_info(g).when_suspended, 0);
	whole_teardown();
}
END_TEST

/* ---- CopyPriority ------------------------------------------------------------------------ */

/* All is read, also where nothing is; each read takes that long. */
static const char *slow_reads(unsigned ms)
{
	static char text[160];

	snprintf(text, sizeof(text),
		 "[x]\nevent = extents\nerrno = EOPNOTSUPP\n"
		 "[r]\nevent = read\ndelay_ms = %u\n",
		 ms);
	return text;
}

static const char stall_reads[] = "[x]\nevent = extents\nerrno = EOPNOTSUPP\n"
				  "[r]\nevent = read\nstall = yes\n";

static uint64_t copy_of(const char *element, const char *priority)
{
	char name[64], text[192];
	uint64_t g;

	snprintf(name, sizeof(name), "of-%s", element);
	g = whole_make(ENGINE_GROUP, name);
	snprintf(text, sizeof(text),
		 "SourceElement=%s\nSyncType=Clone" RSD "CopyPriority=%s", element,
		 priority);
	whole_spec(g, text, CIM_RETURN_JOB_STARTED);
	return g;
}

enum { BIG = 96 << 20 };

/* Two copies of equal size begin at once. */
START_TEST(a_low_copy_makes_way_for_a_high_one)
{
	uint64_t high, low;

	setup("");
	whole_add_faulty("h1", BIG);
	whole_add_faulty("h2", BIG);
	set_rules("h1.rules", stall_reads);
	set_rules("h2.rules", stall_reads);
	low = copy_of("h1", "Low");
	high = copy_of("h2", "High");
	ck_assert_uint_eq(whole_info(low).copy_priority, CIM_PRIORITY_LOW);
	ck_assert_uint_eq(whole_info(high).copy_priority, CIM_PRIORITY_HIGH);
	set_rules("h1.rules", slow_reads(10));
	set_rules("h2.rules", slow_reads(10));
	/* Not at its end: while that is made durable, the other is alone. */
	whole_until(whole_info(high).bytes_copied >= BIG / 8 * 7);
	ck_assert_uint_lt(whole_info(low).bytes_copied, BIG / 3);
	whole_wait_state(high, CIM_COPY_SYNCHRONIZED);
	whole_wait_state(low, CIM_COPY_SYNCHRONIZED);
	whole_teardown();
}
END_TEST

START_TEST(a_changed_priority_takes_effect_at_once_and_stays)
{
	uint64_t high, low;
	struct engine_command cmd;

	setup("");
	whole_add_faulty("h1", BIG);
	whole_add_faulty("h2", BIG);
	set_rules("h2.rules", stall_reads);
	set_rules("h1.rules", stall_reads);
	high = copy_of("h2", "High");
	low = copy_of("h1", "Low");
	/* Beside a fetch of High that does not end it gets one a second: minutes for all. */
	set_rules("h1.rules", slow_reads(60));
	whole_until(whole_info(low).bytes_copied > 0);
	ck_assert_uint_lt(whole_info(low).bytes_copied, BIG / 2);
	whole_put(low, GROUP_COPY_PRIORITY, "5\n", &cmd);
	ck_assert_uint_eq(cmd.outcome.code, CIM_RETURN_INVALID_PARAMETER);
	ck_assert_uint_eq(whole_put(low, GROUP_COPY_PRIORITY, "urgent\n", NULL), 0);
	ck_assert_uint_eq(whole_info(low).copy_priority, CIM_PRIORITY_URGENT);
	whole_wait_state(low, CIM_COPY_SYNCHRONIZED);
	ck_assert_uint_eq(whole_info(high).bytes_copied, 0);
	/* It is the relationship's from now on. */
	whole_stop();
	set_rules("h2.rules", "");
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_info(low).copy_priority, CIM_PRIORITY_URGENT);
	ROW_HAS("spec", whole_list(ENGINE_GROUP, low, GROUP_SPEC),
		"\nCopyPriority=Low\n");
	whole_wait_state(high, CIM_COPY_SYNCHRONIZED);
	whole_teardown();
}
END_TEST

/* Requests of users to another element. */
START_TEST(a_low_copy_makes_way_for_users)
{
	struct engine_handle *h;
	unsigned char buf[WHOLE_CHUNK];
	uint64_t g;

	setup("");
	whole_add_faulty("h1", BIG);
	set_rules("h1.rules", stall_reads);
	g = copy_of("h1", "Low");
	h = whole_open("a", false);
	set_rules("h1.rules", slow_reads(10));
	/* A quarter of a second of it alone; beside these one fetch in 80 ms: not even when
	 * this is interrupted now and then is it done. */
	for (unsigned i = 0; i < 120; i++) {
		ck_assert_int_eq(whole_read(h, 2 * (i % 32), buf), 0);
		usleep(5000);
	}
	ck_assert_uint_eq(whole_state(g), CIM_COPY_UNSYNCHRONIZED);
	engine_data_close(h);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_teardown();
}
END_TEST

static unsigned n_users(void)
{
	return __atomic_load_n(&engine->dataops.priority.n_users, __ATOMIC_ACQUIRE);
}

static void was_read(struct engine_io *io, int error, const void *buf, size_t n)
{
	(void)buf;
	ck_assert_int_eq(error, 0);
	ck_assert_uint_eq(n, io->len);
	__atomic_store_n((bool *)io->opaque, true, __ATOMIC_RELEASE);
}

/* One request of a user that takes long, of another element. */
START_TEST(a_low_copy_makes_way_for_a_slow_request)
{
	enum { PART = 16 << 20, FETCH = 4 << 20 };
	struct engine_io io = { .op = ENGINE_IO_READ,
				.offset = 2097152,
				.len = WHOLE_CHUNK,
				.done = was_read };
	uint64_t g, began_ns, had;
	bool done = false;

	setup("");
	whole_add_faulty("h1", BIG);
	set_rules("h1.rules", stall_reads);
	g = copy_of("h1", "Low");
	whole_rules(slow_rules);
	io.handle = whole_open("f", false);
	io.opaque = &done;
	engine_data_submit(&io);
	whole_until(n_users() == 1);
	set_rules("h1.rules", slow_reads(10));
	whole_until(whole_info(g).bytes_copied > 0);
	/* A fetch, of at most that much, in 80 ms; it is counted when it is there. */
	had = whole_info(g).bytes_copied;
	began_ns = timefmt_monotonic_ns();
	whole_until(whole_info(g).bytes_copied >= had + PART);
	ck_assert_uint_ge(timefmt_monotonic_ns() - began_ns,
			  UINT64_C(70000000) * (PART / FETCH - 1));
	ck_assert(!__atomic_load_n(&done, __ATOMIC_ACQUIRE));
	whole_rules("");
	whole_until(__atomic_load_n(&done, __ATOMIC_ACQUIRE));
	ck_assert_uint_eq(n_users(), 0);
	engine_data_close(io.handle);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_teardown();
}
END_TEST

static const char *verified(uint64_t g)
{
	return whole_list(ENGINE_PAIR, whole_pair(g, 1).id, PAIR_VERIFIED);
}

/* What the engine reads for itself holds up no copy. */
START_TEST(what_a_verify_reads_is_no_request_of_a_user)
{
	uint64_t g;

	setup("");
	g = whole_replica(
		"g", "SourceElement=f SyncType=Clone WaitForCopyState=Synchronized", 0);
	whole_rules(slow_rules);
	whole_control(g, "Verify", CIM_RETURN_JOB_STARTED);
	whole_until(strstr(verified(g), "bytes_compared 2097152"));
	/* Which has reads under way. */
	ck_assert_uint_eq(n_users(), 0);
	ck_assert_uint_eq(engine->dataops.priority.user_ns, 0);
	whole_rules("");
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	ck_assert_uint_eq(engine->dataops.priority.user_ns, 0);
	whole_teardown();
}
END_TEST

/* A restore copies, too: chunks that are apart, which are written back one by one. */
START_TEST(a_low_restore_makes_way_for_users)
{
	static unsigned char was[WHOLE_CHUNK];
	enum { N = 60 };
	struct engine_handle *h;
	unsigned char buf[WHOLE_CHUNK];
	uint64_t g;

	setup("");
	whole_add_faulty("h1", BIG);
	g = whole_make(ENGINE_GROUP, "g");
	whole_spec(g, "SourceElement=h1\nSyncType=Snapshot" RSD "CopyPriority=Low", 0);
	for (unsigned i = 0; i < N; i++)
		whole_fill("h1", 20 * i, 1);
	h = whole_open("a", false);
	set_rules("h1.rules", "[w]\nevent = write zero\ndelay_ms = 10\n");
	whole_control(g, "RestoreFromReplica", CIM_RETURN_JOB_STARTED);
	/* 0.15 s of it alone; beside these one in 80 ms. */
	for (unsigned i = 0; i < 120; i++) {
		ck_assert_int_eq(whole_read(h, 2 * (i % 32), buf), 0);
		usleep(5000);
	}
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	engine_data_close(h);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	h = whole_open("h1", false);
	for (unsigned i = 0; i < N; i++) {
		ck_assert_int_eq(whole_read(h, 20 * i, buf), 0);
		ck_assert(!memcmp(buf, was, sizeof(was)));
	}
	engine_data_close(h);
	whole_teardown();
}
END_TEST

/* ---- max_bytes_per_second ------------------------------------------------------------------ */

/* Of two members together, and on after a restart. */
START_TEST(a_limit_holds_for_all_copies_of_a_relationship)
{
	enum { LIMIT = 4 << 20, SIZE = 4 << 20, BEGIN = LIMIT / 10 + (2 << 20) };
	uint64_t g, left, began_ns;
	struct group_info info;

	setup("\n[setting slow]\nmax_bytes_per_second = 4M\n");
	whole_add_faulty("h1", SIZE);
	whole_add_faulty("h2", SIZE);
	set_rules("h1.rules", slow_reads(0));
	set_rules("h2.rules", slow_reads(0));
	whole_group("prod", "h1 h2");
	g = whole_make(ENGINE_GROUP, "g");
	whole_spec(g, "SourceGroup=prod\nSyncType=Clone\nReplicationSettingData=slow",
		   CIM_RETURN_JOB_STARTED);
	whole_until(whole_info(g).bytes_copied >= 3 << 20);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	began_ns = timefmt_monotonic_ns();
	info = whole_info(g);
	left = 2 * SIZE - info.bytes_copied - info.bytes_skipped;
	ck_assert_uint_gt(left, BEGIN);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	ck_assert_uint_gt((timefmt_monotonic_ns() - began_ns) / 1000000,
			  (left - BEGIN) / (LIMIT / 1000));
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_section_is_read_back_in_its_canonical_form,
		a_named_setting_stays_as_it_was_taken,
		what_is_refused_changes_nothing,
		one_instant_is_taken_where_it_is_asked_for,
		stop_breaks_all_with_one,
		continue_lets_the_others_end,
		beside_a_broken_member_the_copy_can_be_suspended,
		a_detach_ends_with_a_member_that_breaks,
		so_does_a_detach_that_is_suspended,
		a_manual_copy_is_suspended_by_a_new_login,
		a_manual_copy_is_suspended_by_a_login_of_its_target,
		an_automatic_copy_goes_on,
		a_manual_copy_goes_on_after_a_restart,
		a_low_copy_makes_way_for_a_high_one,
		a_changed_priority_takes_effect_at_once_and_stays,
		a_low_copy_makes_way_for_users,
		a_low_copy_makes_way_for_a_slow_request,
		what_a_verify_reads_is_no_request_of_a_user,
		a_low_restore_makes_way_for_users,
		a_limit_holds_for_all_copies_of_a_relationship,
	};

	return unit_main("settings", tests, ROWS(tests));
}
