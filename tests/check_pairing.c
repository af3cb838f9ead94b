/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Where targets come from and which is whose, through the whole engine over files:
 * Pairing, UnequalGroupsAction, TargetElementSupplier, TargetElementResourcePool.
 *
 * What these lines are for shows when they are broken; then these tests fail:
 *   target.c, check_counts(): call->n stays                  a_source_group_can_be_...
 *   target.c, choose_targets(): without hold()               targets_that_are_not_taken_...
 *   target.c, target_hold(): without check_closed_locked()   a_target_that_is_opened_...
 *   pairing.c, pairing_choose(): without choose_by_size()    optimum_finds_a_place_...
 *   pairing.c, pairing_choose(): without part_paths()        optimum_parts_paths
 */

#include "tests/unit.h"

#include <errno.h>
#include <unistd.h>

#include "conf/cim.h"
#include "tests/whole.h"

#define RSD "\n[ReplicationSettingData]\n"
#define CLONE "\nSyncType=Clone\nWaitForCopyState=Synchronized\nTargetGroup=t"

static unsigned char before[3][WHOLE_LUN];

static void setup(void)
{
	whole_daemon("");
	whole_setup();
	for (const char *name = "abcf"; *name; name++) {
		const char text[] = { *name, '\0' };

		whole_until(whole_is_ready(text));
	}
	whole_content("a", before[0]);
	whole_content("b", before[1]);
	whole_content("c", before[2]);
}

/* "a>x b>y": sources and targets of the pairs. */
static const char *pairs_of(uint64_t g)
{
	static char text[256];
	struct pair_info info;
	char name[16];
	int n = 0;

	*text = '\0';
	for (unsigned i = 1;; i++) {
		uint64_t id;

		snprintf(name, sizeof(name), "%u", i);
		id = engine_find(engine, ENGINE_PAIR, g, name);
		if (!id || engine_pair_info(engine, id, &info) < 0)
			return text;
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s%s>%s", n ? " " : "",
			      info.source, info.target);
	}
}

static bool is_free(const char *element)
{
	struct engine_handle *h;
	int r;

	if (*whole_list(ENGINE_ELEMENT, whole_element(element), ELEMENT_RELATIONSHIPS))
		return false;
	r = engine_data_open(engine, whole_element(element), true, getpid(), &h);
	if (!r)
		engine_data_close(h);
	return !r;
}

/* The pairs that a spec makes, of group g, which is given back. */
static void check_pairs(uint64_t g, const char *text, const char *pairs)
{
	whole_spec(g, text, 0);
	ROW_STR_EQ(text, pairs_of(g), pairs);
	whole_control(g, "ReturnToResourcePool", 0);
}

static void check_refused(uint64_t g, const char *text, unsigned code,
			  const char *sentence)
{
	struct engine_command cmd = whole_spec(g, text, code);

	ROW_HAS(text, cmd.outcome.sentence, sentence);
	ck_assert(!whole_info(g).has_relationship);
	ck_assert_str_eq(pairs_of(g), "");
}

/* ---- UnequalGroupsAction ------------------------------------------------------------- */

START_TEST(unequal_groups_are_an_error_unless_it_is_said)
{
	uint64_t g;

	setup();
	whole_add("x", "file:", WHOLE_LUN);
	whole_add("y", "file:", WHOLE_LUN);
	whole_group("prod", "a b c");
	whole_group("one", "a");
	whole_group("t", "x y");
	g = whole_make(ENGINE_GROUP, "g");
	check_refused(
		g, "SourceGroup=prod" CLONE, 5,
		"group \"t\" has 2 members and the source has 3; write as many to its "
		"members, or set UnequalGroupsAction to \"Allow source group to be "
		"larger\"");
	check_refused(g, "SourceGroup=prod" CLONE RSD "UnequalGroupsAction=2", 5,
		      "has 2 members");
	check_refused(g, "SourceGroup=prod" CLONE RSD "UnequalGroupsAction=4", 5,
		      "Allow source group");
	check_refused(g, "SourceGroup=one" CLONE RSD "UnequalGroupsAction=3", 5,
		      "\"Allow target group to be larger\"");
	whole_teardown();
}
END_TEST

START_TEST(a_source_group_can_be_larger)
{
	uint64_t g;

	setup();
	whole_add("x", "file:", WHOLE_LUN);
	whole_add("y", "file:", WHOLE_LUN);
	whole_group("prod", "a b c");
	whole_group("t", "x y");
	g = whole_make(ENGINE_GROUP, "g");
	whole_spec(g, "SourceGroup=prod" CLONE RSD "UnequalGroupsAction=3", 0);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_str_eq(pairs_of(g), "a>x b>y");
		whole_is("x", before[0]);
		whole_is("y", before[1]);
		ck_assert(is_free("c"));
		whole_stop();
		ck_assert_int_eq(whole_start(), 0);
		whole_until(whole_is_ready("a") && whole_is_ready("b") &&
			    whole_is_ready("c") && whole_is_ready("x") &&
			    whole_is_ready("y"));
	}
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	whole_control(g, "Detach", 0);
	ck_assert(is_free("a") && is_free("x"));
	whole_teardown();
}
END_TEST

START_TEST(a_target_group_can_be_larger)
{
	uint64_t g;

	setup();
	whole_add("x", "file:", WHOLE_LUN);
	whole_add("y", "file:", WHOLE_LUN);
	whole_group("t", "x y");
	g = whole_make(ENGINE_GROUP, "g");
	whole_spec(g, "SourceElement=a" CLONE RSD "UnequalGroupsAction=4", 0);
	ck_assert_str_eq(pairs_of(g), "a>x");
	whole_is("x", before[0]);
	ck_assert(is_free("y"));
	whole_fill("y", 1, 1);
	whole_teardown();
}
END_TEST

/* ---- Pairing --------------------------------------------------------------------------- */

START_TEST(the_order_is_kept_where_it_does)
{
	static const char *const pairings[] = { "2", "3", "4" };
	uint64_t g;

	setup();
	whole_add("x", "file:", 2 * WHOLE_LUN);
	whole_add("y", "file:", WHOLE_LUN);
	whole_group("prod", "b a");
	whole_group("t", "x y");
	g = whole_make(ENGINE_GROUP, "g");
	for (size_t i = 0; i < ROWS(pairings); i++) {
		char text[256];

		snprintf(text, sizeof(text), "SourceGroup=prod" CLONE RSD "Pairing=%s",
			 pairings[i]);
		check_pairs(g, text, "b>x a>y");
	}
	whole_teardown();
}
END_TEST

START_TEST(optimum_finds_a_place_for_each_by_its_size)
{
	uint64_t g;

	setup();
	whole_add("l", "file:", 3 * WHOLE_LUN);
	whole_add("m", "file:", 2 * WHOLE_LUN);
	whole_add("x", "file:", WHOLE_LUN);
	whole_add("y", "file:", 2 * WHOLE_LUN);
	whole_add("z", "file:", 4 * WHOLE_LUN);
	whole_fill("l", 100, 100);
	whole_group("prod", "l a m");
	whole_group("t", "y z x");
	g = whole_make(ENGINE_GROUP, "g");
	check_refused(g, "SourceGroup=prod" CLONE RSD "Pairing=Exact order", 5,
		      "member \"y\" has 8388608 bytes and its source \"l\" has 12582912");
	check_pairs(g, "SourceGroup=prod" CLONE RSD "Pairing=Optimum", "l>z a>x m>y");
	whole_is("x", before[0]);
	/* There is none for two large ones: all are free. */
	whole_group("large", "l m");
	ck_assert_uint_eq(whole_put(engine_find(engine, ENGINE_GROUP, 0, "t"),
				    GROUP_MEMBERS, "x z\n", NULL),
			  0);
	check_refused(g, "SourceGroup=large" CLONE RSD "Pairing=Optimum", 5,
		      "member \"x\" has 4194304 bytes");
	ck_assert(is_free("x") && is_free("z") && is_free("l"));
	whole_teardown();
}
END_TEST

START_TEST(targets_that_are_not_taken_are_free)
{
	uint64_t g;

	setup();
	whole_add("l", "file:", 2 * WHOLE_LUN);
	whole_add("x", "file:", WHOLE_LUN);
	whole_add("y", "file:", 3 * WHOLE_LUN);
	whole_add("z", "file:", 2 * WHOLE_LUN);
	whole_group("t", "x y z");
	g = whole_make(ENGINE_GROUP, "g");
	whole_spec(g,
		   "SourceElement=l" CLONE RSD
		   "Pairing=Optimum\nUnequalGroupsAction=Allow target group to be larger",
		   0);
	/* The smallest that does. */
	ck_assert_str_eq(pairs_of(g), "l>z");
	ck_assert(is_free("x") && is_free("y"));
	ck_assert(!is_free("z"));
	whole_teardown();
}
END_TEST

START_TEST(optimum_parts_paths)
{
	uint64_t g;

	setup();
	whole_add("x", "file:", WHOLE_LUN);
	whole_add_faulty("y", WHOLE_LUN);
	whole_group("prod", "a f");
	whole_group("t", "x y");
	g = whole_make(ENGINE_GROUP, "g");
	check_pairs(g, "SourceGroup=prod" CLONE RSD "Pairing=3", "a>x f>y");
	check_pairs(g, "SourceGroup=prod" CLONE RSD "Pairing=4", "a>y f>x");
	whole_is("y", before[0]);
	/* Also for one that would not be taken else. */
	check_pairs(g, "SourceElement=a" CLONE RSD "Pairing=4\nUnequalGroupsAction=4",
		    "a>y");
	ck_assert(is_free("x"));
	whole_teardown();
}
END_TEST

/* ---- TargetElementSupplier, TargetElementResourcePool ------------------------------------- */

START_TEST(a_supplier_is_who_it_says)
{
	static const struct {
		const char *supplier;
		unsigned with_members, with_none; /* codes */
		const char *sentence;
	} rows[] = {
		{ "Use existing", 0, 5, "Use existing needs a TargetGroup" },
		{ "Create new", 5, 0, "Create new excludes TargetGroup=t" },
		{ "Use and create", 1, 1, "Use and create is not supported" },
		{ "Instrumentation decides", 0, 0, "" },
		{ "Client must supply", 0, 5, "Client must supply needs a TargetGroup" },
	};
	uint64_t g;

	setup();
	whole_add("x", "file:", WHOLE_LUN);
	whole_group("t", "x");
	g = whole_make(ENGINE_GROUP, "g");
	for (size_t i = 0; i < 2 * ROWS(rows); i++) {
		bool with = i % 2;
		unsigned code = with ? rows[i / 2].with_members : rows[i / 2].with_none;
		char text[256];

		snprintf(text, sizeof(text),
			 "SourceElement=a\nSyncType=Clone\n%s"
			 "WaitForCopyState=Synchronized" RSD "TargetElementSupplier=%s",
			 with ? "TargetGroup=t\n" : "", rows[i / 2].supplier);
		if (code)
			check_refused(g, text, code, rows[i / 2].sentence);
		else
			check_pairs(g, text, with ? "a>x" : "a>g_1");
	}
	/* An empty group is to be filled. */
	whole_make(ENGINE_GROUP, "e");
	check_refused(g,
		      "SourceElement=a\nSyncType=Clone\nTargetGroup=e" RSD
		      "TargetElementSupplier=5",
		      5, "Client must supply needs");
	whole_teardown();
}
END_TEST

START_TEST(a_pool_can_be_that_of_the_source)
{
	char pools[256];
	uint64_t g;

	setup();
	whole_stop();
	snprintf(pools, sizeof(pools),
		 "default_pool = p\n[pool q]\ntype = dir\npath = %s/other\n", whole_dir);
	whole_daemon(pools);
	ck_assert_int_eq(whole_start(), 0);
	whole_until(whole_is_ready("a"));
	g = whole_make(ENGINE_GROUP, "g");
	check_refused(
		g, "SourceElement=a\nSyncType=Snapshot" RSD "TargetElementResourcePool=3",
		5, "TargetElementResourcePool: the sources are not in one pool");
	whole_spec(g,
		   "SourceElement=a\nSyncType=Clone\nWaitForCopyState=Synchronized\n"
		   "RelationshipName=i\nTargetPool=q",
		   0);
	whole_control(g, "Detach", 0);
	whole_put(g, GROUP_MEMBERS, "\n", NULL);
	whole_spec(g,
		   "SourceElement=i_1\nSyncType=Snapshot" RSD
		   "TargetElementResourcePool=Same as source element",
		   0);
	ck_assert_str_eq(whole_list(ENGINE_POOL, engine_find(engine, ENGINE_POOL, 0, "q"),
				    POOL_IMAGES),
			 "i_1\ng_1\n");
	whole_control(g, "ReturnToResourcePool", 0);
	/* What is said of the pool itself counts. */
	whole_spec(g,
		   "SourceElement=i_1\nSyncType=Snapshot\nTargetPool=p" RSD
		   "TargetElementResourcePool=3",
		   0);
	ck_assert_str_eq(whole_list(ENGINE_POOL, engine_find(engine, ENGINE_POOL, 0, "p"),
				    POOL_IMAGES),
			 "g_1\n");
	whole_teardown();
}
END_TEST

/* ---- between the check and the call that holds them ------------------------------------ */

/* What target_check() has let pass is opened by another thread. */
static struct engine_handle *opened;
static bool opens;

struct replica_call;
int __real_replica_decide_consistency(struct replica_call *call);
int __wrap_replica_decide_consistency(struct replica_call *call);

int __wrap_replica_decide_consistency(struct replica_call *call)
{
	if (opens)
		ck_assert_int_eq(engine_data_open(engine, whole_element("c"), true,
						  getpid(), &opened),
				 0);
	return __real_replica_decide_consistency(call);
}

START_TEST(a_target_that_is_opened_meanwhile_is_in_use)
{
	struct engine_command cmd;
	uint64_t g;

	setup();
	whole_group("t", "b c");
	whole_group("s", "a f");
	g = whole_make(ENGINE_GROUP, "g");
	opens = true;
	cmd = whole_spec(g, "SourceGroup=s" CLONE, CIM_RETURN_IN_USE);
	opens = false;
	ROW_HAS("c", cmd.outcome.sentence,
		"TargetGroup: member \"c\" would be overwritten: 1 open handle");
	/* Nothing is held. */
	engine_data_close(whole_open("b", true));
	ck_assert_int_eq(whole_write(opened, 0, 7), 0);
	engine_data_close(opened);
	whole_spec(g, "SourceGroup=s" CLONE, 0);
	whole_is("b", before[0]);
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		unequal_groups_are_an_error_unless_it_is_said,
		a_source_group_can_be_larger,
		a_target_group_can_be_larger,
		the_order_is_kept_where_it_does,
		optimum_finds_a_place_for_each_by_its_size,
		targets_that_are_not_taken_are_free,
		optimum_parts_paths,
		a_supplier_is_who_it_says,
		a_pool_can_be_that_of_the_source,
		a_target_that_is_opened_meanwhile_is_in_use,
	};

	return unit_main("pairing", tests, ROWS(tests));
}
