/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * TargetSettingGoal through the whole engine over files: images that are thick or thin,
 * and that are read-only or not, for ever or as long as their relationship is there.
 *
 * What these lines are for shows when they are broken; then these tests fail:
 *   instant.c, make_member(): false for m->reserve        a_thick_image_...
 *   pool.c, pool_empty_image(): without zero_reserved()   the same
 *   instant.c, open_image(): without .reserved            the same
 *   bd_file.c, file_zero(): f->reserved not looked at     the same
 *   data.c, element_is_read_only(): false                 a_read_only_image_...
 *   target.c, check_exclusions(): without the goal        targets_that_are_there_...
 */

#include "tests/unit.h"

#include <errno.h>
#include <semaphore.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "conf/cim.h"
#include "tests/whole.h"

#define RSD "\n[ReplicationSettingData]\n"
#define GOAL "\n[TargetSettingGoal]\n"
#define CLONE "SourceElement=a\nSyncType=Clone\nWaitForCopyState=Synchronized"
#define SNAPSHOT "SourceElement=a\nSyncType=Snapshot"
#define THICK "ThinProvisioningPolicy=Copy thin source to full target"

static unsigned char before[WHOLE_LUN];

static void setup(const char *settings)
{
	whole_daemon(settings);
	whole_setup();
	whole_until(whole_is_ready("a") && whole_is_ready("b") && whole_is_ready("f"));
	whole_content("a", before);
}

static struct element_info element(const char *name)
{
	struct element_info info;

	ck_assert_int_eq(engine_element_info(engine, whole_element(name), &info), 0);
	return info;
}

/* What the pool's file of an image has. */
static uint64_t allocated(const char *name)
{
	struct stat st;

	ck_assert_int_eq(
		stat(whole_path("pool/e%u.raw", (unsigned)whole_element(name)), &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static bool is_thick(const char *name)
{
	ck_assert_int_eq(element(name).thin, allocated(name) < WHOLE_LUN);
	return !element(name).thin;
}

static int open_to_write(const char *name)
{
	struct engine_handle *h;
	int r = engine_data_open(engine, whole_element(name), true, getpid(), &h);

	if (!r)
		engine_data_close(h);
	return r;
}

static void restart(void)
{
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	whole_until(whole_is_ready("a"));
}

/* An image in no relationship, whose group is gone, too. */
static void make_image(const char *name, const char *spec)
{
	uint64_t g = whole_make(ENGINE_GROUP, name);

	whole_spec(g, spec, 0);
	whole_control(g, "Detach", 0);
	whole_put(g, GROUP_MEMBERS, "\n", NULL);
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, g), 0);
}

/* ---- thick --------------------------------------------------------------------------- */

struct zeroing {
	struct engine_io io;
	sem_t done;
	int error;
};

static void zeroed(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct zeroing *z = (struct zeroing *)io;

	(void)buf;
	(void)n;
	z->error = error;
	sem_post(&z->done);
}

/* As fallocate(2) does it with PUNCH_HOLE. */
static void zero_chunk(const char *name, uint64_t chunk)
{
	unsigned char zeros[WHOLE_CHUNK] = { 0 }, buf[WHOLE_CHUNK];
	struct engine_handle *h = whole_open(name, true);
	struct zeroing z = { .io = { .op = ENGINE_IO_ZERO,
				     .handle = h,
				     .offset = chunk * WHOLE_CHUNK,
				     .len = WHOLE_CHUNK,
				     .done = zeroed } };

	sem_init(&z.done, 0, 0);
	engine_data_submit(&z.io);
	while (sem_wait(&z.done) < 0)
		;
	sem_destroy(&z.done);
	ck_assert_int_eq(z.error, 0);
	ck_assert_int_eq(whole_read(h, chunk, buf), 0);
	ck_assert(!memcmp(buf, zeros, sizeof(buf)));
	engine_data_close(h);
}

START_TEST(a_thick_image_has_its_space_from_the_first_to_the_last)
{
	uint64_t g;

	setup("");
	g = whole_make(ENGINE_GROUP, "g");
	whole_spec(g,
		   "SourceElement=a\nSyncType=Snapshot\nWaitForCopyState=Inactive" GOAL
			   THICK,
		   0);
	ck_assert(is_thick("g_1"));
	whole_control(g, "Activate", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_is("g_1", before);
	ck_assert(is_thick("g_1"));
	whole_fill("g_1", 3, 3);
	zero_chunk("g_1", 3);
	ck_assert(is_thick("g_1"));
	/* Nothing of what was written stays, but its space. */
	whole_control(g, "Deactivate", 0);
	ck_assert(is_thick("g_1"));
	whole_control(g, "Activate", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_is("g_1", before);
	whole_fill("g_1", 5, 5);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_is("g_1", before);
	ck_assert(is_thick("g_1"));
	restart();
	ck_assert(is_thick("g_1"));
	whole_control(g, "Detach", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_NOT_APPLICABLE);
	ck_assert(is_thick("g_1"));
	restart();
	whole_is("g_1", before);
	ck_assert(is_thick("g_1"));
	/* As a source, which is written through its volume. */
	whole_replica("s", "SourceElement=g_1 SyncType=Snapshot", 0);
	zero_chunk("g_1", 2);
	ck_assert(is_thick("g_1"));
	whole_is("s_1", before);
	whole_teardown();
}
END_TEST

START_TEST(each_policy_makes_what_it_says)
{
	static const struct {
		const char *text;
		bool of_thin, of_thick;
	} rows[] = {
		{ "", false, false },
		{ RSD "ThinProvisioningPolicy=2", false, false },
		{ RSD "ThinProvisioningPolicy=3", true, true },
		{ RSD "ThinProvisioningPolicy=4", false, false },
		{ RSD "ThinProvisioningPolicy=5", false, true },
		{ RSD "ThinProvisioningPolicy=6", false, false },
		{ RSD "ThinProvisioningPolicy=7", false, false },
		{ GOAL "ThinProvisioningPolicy=3", true, true },
		{ GOAL "ThinProvisioningPolicy=5", false, true },
		{ RSD "TargetElementGoal=2", false, false },
		{ RSD "TargetElementGoal=3", false, true },
		{ RSD "TargetElementGoal=3\nThinProvisioningPolicy=4", false, false },
		{ RSD "TargetElementGoal=3" GOAL "ThinProvisioningPolicy=4", false,
		  false },
	};
	uint64_t g;

	setup("");
	make_image("thin", CLONE);
	make_image("thick", CLONE GOAL THICK);
	ck_assert(!is_thick("thin_1") && is_thick("thick_1"));
	g = whole_make(ENGINE_GROUP, "g");
	for (size_t i = 0; i < 2 * ROWS(rows); i++) {
		bool of_thick = i % 2;
		char text[256];

		snprintf(text, sizeof(text), "SourceElement=%s\nSyncType=Snapshot%s",
			 of_thick ? "thick_1" : "thin_1", rows[i / 2].text);
		whole_spec(g, text, 0);
		ROW_EQ(text, is_thick("g_1"),
		       of_thick ? rows[i / 2].of_thick : rows[i / 2].of_thin);
		whole_is("g_1", before);
		whole_control(g, "ReturnToResourcePool", 0);
	}
	whole_teardown();
}
END_TEST

START_TEST(what_cannot_be_reserved_fails_at_once_and_leaves_nothing)
{
	struct engine_command cmd;
	struct statvfs fs;
	uint64_t g, more;

	setup("");
	ck_assert_int_eq(statvfs(whole_path("pool"), &fs), 0);
	more = (uint64_t)fs.f_bavail * fs.f_frsize + (UINT64_C(1) << 30);
	whole_add("big", "file:", (off_t)(more / 65536 * 65536));
	whole_group("prod", "a big");
	g = whole_make(ENGINE_GROUP, "g");
	cmd = whole_spec(g, "SourceGroup=prod\nSyncType=Snapshot" GOAL THICK,
			 CIM_RETURN_FAILED);
	ck_assert_int_eq(cmd.outcome.error, ENOSPC);
	ROW_HAS("sentence", cmd.outcome.sentence, "pool p: ");
	ck_assert_uint_eq(whole_files("e") + whole_files("p"), 0);
	ck_assert_uint_eq(whole_element("g_1"), 0);
	ck_assert(!whole_info(g).has_relationship);
	/* Thin it is no trouble. */
	whole_spec(g, "SourceGroup=prod\nSyncType=Snapshot", 0);
	ck_assert(!is_thick("g_1"));
	whole_teardown();
}
END_TEST

/* ---- read-only ------------------------------------------------------------------------ */

START_TEST(a_read_only_image_is_so_for_ever)
{
	uint64_t g;

	setup("");
	g = whole_make(ENGINE_GROUP, "g");
	whole_spec(g, CLONE GOAL "ReadOnly=SyncedElement", 0);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(open_to_write("g_1"), -EROFS);
		ck_assert(element("g_1").read_only);
		whole_is("g_1", before);
		if (i == 0)
			restart();
		else if (i == 1)
			whole_control(g, "Detach", 0);
	}
	/* Nor is it written by a restore. */
	g = whole_make(ENGINE_GROUP, "h");
	whole_spec(g, "SourceElement=g_1\nSyncType=Snapshot", 0);
	ck_assert_int_eq(open_to_write("h_1"), 0);
	whole_fill("h_1", 1, 1);
	whole_control(g, "RestoreFromReplica", CIM_RETURN_FAILED);
	whole_control(g, "ReturnToResourcePool", 0);
	/* What takes after it is, too. */
	whole_spec(g,
		   "SourceElement=g_1\nSyncType=Snapshot" RSD
		   "TargetElementGoal=Same as source element",
		   0);
	ck_assert_int_eq(open_to_write("h_1"), -EROFS);
	whole_teardown();
}
END_TEST

START_TEST(a_read_only_side_is_so_while_the_relationship_is_there)
{
	uint64_t g, t;

	setup("");
	g = whole_make(ENGINE_GROUP, "g");
	whole_spec(g, CLONE RSD "ReadOnly=SyncedElement", 0);
	ck_assert_int_eq(open_to_write("g_1"), -EROFS);
	ck_assert_int_eq(open_to_write("a"), 0);
	restart();
	ck_assert_int_eq(open_to_write("g_1"), -EROFS);
	/* It is filled anew all the same. */
	whole_fill("a", 9, 9);
	whole_content("a", before);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	whole_is("g_1", before);
	whole_forget();
	whole_control(g, "Detach", 0);
	ck_assert_int_eq(open_to_write("g_1"), 0);
	ck_assert_uint_ge(whole_n_events(ENGINE_ELEMENT, ENGINE_EVENT_CONTENT), 1);
	/* So it is of a LUN. */
	whole_group("lun", "b");
	t = whole_make(ENGINE_GROUP, "t");
	whole_spec(t, CLONE "\nTargetGroup=lun" RSD "ReadOnly=3", 0);
	ck_assert_int_eq(open_to_write("b"), -EROFS);
	whole_is("b", before);
	whole_control(t, "ReturnToResourcePool", 0);
	ck_assert_int_eq(open_to_write("b"), 0);
	whole_teardown();
}
END_TEST

/* ---- where it comes from, and what it excludes ------------------------------------------ */

START_TEST(a_goal_can_be_a_named_setting)
{
	struct engine_command cmd;
	uint64_t g;

	setup("\n[setting thick]\n" THICK "\nReadOnly = SyncedElement\n"
	      "[setting wrong]\n" THICK "\nCopyPriority = Low\n"
	      "[setting limited]\nmax_bytes_per_second = 1M\n"
	      "[setting both]\nReadOnly = Both\n");
	g = whole_make(ENGINE_GROUP, "g");
	cmd = whole_spec(g, CLONE "\nTargetSettingGoal=thin",
			 CIM_RETURN_INVALID_PARAMETER);
	ck_assert_int_eq(cmd.outcome.error, ENOENT);
	ROW_HAS("names", cmd.outcome.sentence, "TargetSettingGoal: there is no");
	cmd = whole_spec(g, CLONE "\nTargetSettingGoal=wrong",
			 CIM_RETURN_INVALID_PARAMETER);
	ROW_HAS("wrong", cmd.outcome.sentence, "CopyPriority is not what a target is");
	cmd = whole_spec(g, CLONE "\nTargetSettingGoal=limited",
			 CIM_RETURN_INVALID_PARAMETER);
	ROW_HAS("limited", cmd.outcome.sentence, "max_bytes_per_second");
	cmd = whole_spec(g, CLONE "\nTargetSettingGoal=both", CIM_RETURN_NOT_SUPPORTED);
	ROW_HAS("both", cmd.outcome.sentence, "ReadOnly: Both is not supported");
	whole_spec(g, CLONE "\nTargetSettingGoal=thick", 0);
	ROW_HAS("spec", whole_list(ENGINE_GROUP, g, GROUP_SPEC),
		"\nTargetSettingGoal=thick\n");
	ck_assert(is_thick("g_1"));
	ck_assert_int_eq(open_to_write("g_1"), -EROFS);
	whole_control(g, "ReturnToResourcePool", 0);
	/* The section, in its canonical form. */
	whole_spec(g, CLONE GOAL "ReadOnly=3\nThinProvisioningPolicy=3", 0);
	ROW_HAS("spec", whole_list(ENGINE_GROUP, g, GROUP_SPEC),
		GOAL THICK "\nReadOnly=SyncedElement\n[Run]\n");
	whole_control(g, "ReturnToResourcePool", 0);
	/* Said twice, and differently. */
	cmd = whole_spec(
		g, CLONE RSD "ThinProvisioningPolicy=2" GOAL "ThinProvisioningPolicy=3",
		CIM_RETURN_INVALID_PARAMETER);
	ROW_HAS("twice", cmd.outcome.sentence, "different values");
	whole_spec(g, CLONE RSD THICK GOAL THICK, 0);
	ck_assert(is_thick("g_1"));
	whole_teardown();
}
END_TEST

START_TEST(targets_that_are_there_have_no_goal)
{
	static const struct {
		const char *text, *sentence;
	} rows[] = {
		{ "\nTargetSettingGoal=thick",
		  "TargetSettingGoal excludes TargetGroup=lun" },
		{ GOAL "ReadOnly=3", "TargetSettingGoal excludes TargetGroup=lun" },
		{ RSD THICK, "ThinProvisioningPolicy speaks of targets that are made" },
		{ RSD "ThinProvisioningPolicy=5", "leave it out" },
		{ RSD "TargetElementGoal=3", "TargetElementGoal speaks of" },
	};
	uint64_t g;

	setup("\n[setting thick]\n" THICK "\n");
	whole_group("lun", "b");
	g = whole_make(ENGINE_GROUP, "g");
	for (size_t i = 0; i < ROWS(rows); i++) {
		struct engine_command cmd;
		char text[256];

		snprintf(text, sizeof(text), CLONE "\nTargetGroup=lun%s", rows[i].text);
		cmd = whole_spec(g, text, CIM_RETURN_INVALID_PARAMETER);
		ROW_HAS(text, cmd.outcome.sentence, rows[i].sentence);
		ck_assert(!whole_info(g).has_relationship);
	}
	/* An empty group is filled with what it says. */
	whole_make(ENGINE_GROUP, "empty");
	whole_spec(g, CLONE "\nTargetGroup=empty" GOAL THICK, 0);
	ck_assert(is_thick("g_1"));
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_thick_image_has_its_space_from_the_first_to_the_last,
		each_policy_makes_what_it_says,
		what_cannot_be_reserved_fails_at_once_and_leaves_nothing,
		a_read_only_image_is_so_for_ever,
		a_read_only_side_is_so_while_the_relationship_is_there,
		a_goal_can_be_a_named_setting,
		targets_that_are_there_have_no_goal,
	};

	return unit_main("goal", tests, ROWS(tests));
}
