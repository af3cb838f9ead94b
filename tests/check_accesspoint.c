/* SPDX-License-Identifier: BSD-2-Clause */

/* Access points of a spec, and the elements that it makes at them, up to the login: at
 * a portal where nobody listens, through the whole engine.  tests/test-access.sh has
 * what follows, on a target. */

#include "tests/unit.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

#include "conf/cim.h"
#include "engine/store.h"
#include "tests/whole.h"

#define LUN "SourceElement=iqn.2026-01.a:b/0 SourceAccessPoint=dead"
#define NAME "iqn.2026-01.a_b_0"

/* ---- a store that cannot be written ---------------------------------------------- */

static int inserts_that_fail, deletions_that_fail; /* of elements; the next ones */
static bool fails;				   /* this transaction */

int64_t __real_store_element_insert(struct store *s, const struct store_element *row);
int64_t __wrap_store_element_insert(struct store *s, const struct store_element *row);
int __real_store_element_delete(struct store *s, uint64_t id);
int __wrap_store_element_delete(struct store *s, uint64_t id);
int __real_store_commit(struct store *s);
int __wrap_store_commit(struct store *s);

int64_t __wrap_store_element_insert(struct store *s, const struct store_element *row)
{
	fails = inserts_that_fail > 0 && inserts_that_fail--;
	return __real_store_element_insert(s, row);
}

int __wrap_store_element_delete(struct store *s, uint64_t id)
{
	fails = deletions_that_fail > 0 && deletions_that_fail--;
	return __real_store_element_delete(s, id);
}

int __wrap_store_commit(struct store *s)
{
	if (!fails)
		return __real_store_commit(s);
	fails = false;
	store_rollback(s);
	return -EIO;
}

/* ---- the rig ---------------------------------------------------------------------- */

static void setup(void)
{
	whole_daemon("[access_point dead]\nportal=127.0.0.1:1\n"
		     "[access_point other]\nportal=127.0.0.1:1\n"
		     "[element d]\naccess_point=dead\ntarget=iqn.2026-01.a:d\nlun=5\n");
	whole_setup();
	inserts_that_fail = deletions_that_fail = 0;
	whole_forget();
}

static void begin(struct whole_call *call, uint64_t group, const char *text)
{
	call->cmd = (struct engine_command){ .verb = ENGINE_WRITE,
					     .class = ENGINE_GROUP,
					     .id = group,
					     .file = GROUP_SPEC,
					     .text = text,
					     .len = strlen(text) };
	whole_send(call);
}

static void interrupt(struct whole_call *call)
{
	engine_interrupt(engine, &call->cmd);
	whole_wait(call);
	ck_assert_int_eq(call->cmd.outcome.error, EINTR);
}

/* ---- what is refused --------------------------------------------------------------- */

START_TEST(what_does_not_agree_is_refused)
{
	static const struct {
		const char *text;
		unsigned code;
		int error;
		const char *sentence;
	} rows[] = {
		{ "SourceElement=iqn.2026-01.a:b/0 SourceAccessPoint=x SyncType=Clone", 5,
		  ENOENT,
		  "SourceAccessPoint: there is no [access_point x]; access points: dead, "
		  "other" },
		{ "SourceElement=s SourceAccessPoint=x SyncType=Clone", 5, ENOENT,
		  "there is no [access_point x]" },
		{ "SourceElement=s TargetAccessPoint=x SyncType=Clone", 5, ENOENT,
		  "TargetAccessPoint: there is no [access_point x]" },
		{ "SourceElement=s SourceAccessPoint=dead SyncType=Clone", 5, EINVAL,
		  "SourceAccessPoint=dead: element \"s\" is reached without an access "
		  "point; leave SourceAccessPoint out" },
		{ "SourceElement=d SourceAccessPoint=other SyncType=Clone", 5, EINVAL,
		  "element \"d\" is at access point \"dead\"" },
		{ "SourceElement=g_1 SourceAccessPoint=dead SyncType=Clone", 5, EINVAL,
		  "element \"g_1\" is an image in a pool" },
		{ "SourceGroup=ds SourceAccessPoint=dead SyncType=Clone", 5, EINVAL,
		  "element \"s\" is reached without" },
		{ "SourceElement=s TargetAccessPoint=dead SyncType=Clone", 1, EOPNOTSUPP,
		  "TargetAccessPoint=dead: LunFS makes no LUNs at a target" },
		{ "SourceElement=s TargetGroup=none TargetAccessPoint=dead SyncType=Clone",
		  1, EOPNOTSUPP, "TargetAccessPoint=dead: LunFS makes no LUNs" },
		{ "SourceElement=s TargetGroup=onto TargetAccessPoint=dead SyncType=Clone",
		  5, EINVAL, "TargetAccessPoint=dead: element \"a\" is reached without" },
		{ "SourceElement=iqn.2026-01.a:d/5 SourceAccessPoint=other SyncType=Clone",
		  5, EINVAL,
		  "is element \"d\" already, which is reached by access point \"dead\"; "
		  "write SourceElement=d" },
		{ LUN " SyncType=Snapshot", 1, EOPNOTSUPP,
		  "no Snapshot of member \"" NAME "\", as it is shared" },
		{ LUN " SyncType=Clone Consistency=3", 1, EOPNOTSUPP,
		  "shared_method = none" },
		{ LUN " SyncType=Clone TargetPool=q", 5, ENOENT, "no pool \"q\"" },
		{ "SourceElement=iqn.2026-01.a:taken/0 SourceAccessPoint=dead "
		  "SyncType=Clone",
		  6, EBUSY,
		  "would be element \"iqn.2026-01.a_taken_0\", and there is one already, "
		  "whose url is \"\"" },
		{ "SourceElement=iqn.2026-01.a:b/1 SourceAccessPoint=dead SyncType=Clone "
		  "RelationshipName=iqn.2026-01.a_b",
		  6, EBUSY,
		  "RelationshipName: image 1 of \"iqn.2026-01.a_b\" would be "
		  "\"iqn.2026-01.a_b_1\", and so would be the element of SourceElement "
		  "iqn.2026-01.a:b/1" },
		{ "SourceElement=iqn.2026-01.a:b/2 SourceAccessPoint=dead SyncType=Clone "
		  "TargetElementCount=2 RelationshipName=iqn.2026-01.a_b",
		  6, EBUSY, "image 2 of \"iqn.2026-01.a_b\" would be" },
	};
	uint64_t g;

	setup();
	g = whole_make(ENGINE_GROUP, "new");
	whole_group("ds", "d s");
	whole_group("onto", "a");
	whole_make(ENGINE_GROUP, "none");
	whole_make(ENGINE_ELEMENT, "iqn.2026-01.a_taken_0");
	whole_replica("g", "SourceElement=s SyncType=Clone WaitForCopyState=Synchronized",
		      0);
	whole_control(engine_find(engine, ENGINE_GROUP, 0, "g"), "Detach", 0);
	whole_forget();
	for (size_t i = 0; i < ROWS(rows); i++) {
		struct engine_command cmd;
		char line[256];

		snprintf(line, sizeof(line), "%s\n", rows[i].text);
		ROW_EQ(rows[i].text, whole_put(g, GROUP_SPEC, line, &cmd), rows[i].code);
		ROW_EQ(rows[i].text, cmd.outcome.error, rows[i].error);
		ROW_HAS(rows[i].text, cmd.outcome.sentence, rows[i].sentence);
	}
	ck_assert_uint_eq(whole_n_events(ENGINE_ELEMENT, ENGINE_EVENT_CREATED), 0);
	ck_assert_uint_eq(whole_element(NAME), 0);
	whole_teardown();
}
END_TEST

/* ---- the element of a call that waits for its login --------------------------------- */

START_TEST(a_call_that_is_given_up_leaves_nothing)
{
	uint64_t g, id;
	struct whole_call call;

	setup();
	g = whole_make(ENGINE_GROUP, "new");
	begin(&call, g, LUN " SyncType=Clone\n");
	whole_until(whole_element(NAME));
	id = whole_element(NAME);
	/* It is used: neither a tick nor a user takes it away. */
	ck_assert_uint_eq(whole_remove(ENGINE_ELEMENT, id), CIM_RETURN_IN_USE);
	interrupt(&call);
	ck_assert_uint_eq(whole_element(NAME), 0);
	ck_assert_uint_eq(whole_n_events(ENGINE_ELEMENT, ENGINE_EVENT_REMOVED), 1);
	/* Another one is another element, of the same name. */
	begin(&call, g, LUN " SyncType=Clone\n");
	whole_until(whole_element(NAME));
	ck_assert_uint_gt(whole_element(NAME), id);
	interrupt(&call);
	ck_assert_uint_eq(whole_element(NAME), 0);
	whole_teardown();
}
END_TEST

START_TEST(two_calls_have_the_same_element)
{
	uint64_t g, h, id;
	struct whole_call one, two;

	setup();
	g = whole_make(ENGINE_GROUP, "new");
	h = whole_make(ENGINE_GROUP, "too");
	begin(&one, g, LUN " SyncType=Clone\n");
	whole_until(whole_element(NAME));
	id = whole_element(NAME);
	begin(&two, h,
	      "SyncType=Clone SourceAccessPoint=dead\t"
	      "SourceElement=iqn.2026-01.a:b/000\n");
	interrupt(&one);
	ck_assert_uint_eq(whole_element(NAME), id);
	interrupt(&two);
	ck_assert_uint_eq(whole_element(NAME), 0);
	ck_assert_uint_eq(whole_n_events(ENGINE_ELEMENT, ENGINE_EVENT_CREATED), 1);
	whole_teardown();
}
END_TEST

START_TEST(one_that_is_configured_is_taken)
{
	uint64_t g;
	struct whole_call call;

	setup();
	g = whole_make(ENGINE_GROUP, "new");
	begin(&call, g,
	      "SourceElement=iqn.2026-01.a:d/5 SourceAccessPoint=dead "
	      "SyncType=Clone\n");
	whole_make(ENGINE_GROUP, "next"); /* what was sent before has been looked at */
	ck_assert_uint_eq(whole_element("iqn.2026-01.a_d_5"), 0);
	interrupt(&call);
	ck_assert_uint_ne(whole_element("d"), 0);
	whole_teardown();
}
END_TEST

/* Whose image would have the name of the element. */
START_TEST(a_name_that_another_call_claims_is_not_taken)
{
	uint64_t g, h;
	struct engine_command cmd;
	struct whole_call call;

	setup();
	g = whole_make(ENGINE_GROUP, "new");
	h = whole_make(ENGINE_GROUP, "too");
	begin(&call, g, LUN " SyncType=Clone RelationshipName=iqn.2026-01.x_y\n");
	whole_until(whole_element(NAME));
	ck_assert_uint_eq(whole_put(h, GROUP_SPEC,
				    "SourceElement=iqn.2026-01.x:y/1 "
				    "SourceAccessPoint=dead SyncType=Clone\n",
				    &cmd),
			  CIM_RETURN_IN_USE);
	ROW_HAS("claimed", cmd.outcome.sentence,
		"would be element \"iqn.2026-01.x_y_1\", and that is to be an image of the "
		"spec of group \"new\"");
	ck_assert_uint_eq(whole_element("iqn.2026-01.x_y_1"), 0);
	interrupt(&call);
	whole_teardown();
}
END_TEST

START_TEST(a_stop_takes_it_away)
{
	uint64_t g;
	struct whole_call call;

	setup();
	g = whole_make(ENGINE_GROUP, "new");
	begin(&call, g, LUN " SyncType=Clone\n");
	whole_until(whole_element(NAME));
	whole_stop();
	whole_wait(&call);
	ck_assert_int_ne(call.cmd.outcome.error, 0);
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_element(NAME), 0);
	whole_teardown();
}
END_TEST

START_TEST(a_member_stays_and_comes_back_with_its_access_point)
{
	uint64_t g, id;
	struct whole_call call;

	setup();
	g = whole_make(ENGINE_GROUP, "new");
	begin(&call, g, LUN " SyncType=Clone\n");
	whole_until(whole_element(NAME));
	id = whole_element(NAME);
	whole_group("keep", NAME);
	interrupt(&call);
	ck_assert_uint_eq(whole_element(NAME), id);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_element(NAME), id);
	/* Its access point is known still: it agrees, and nothing new is made. */
	g = engine_find(engine, ENGINE_GROUP, 0, "new");
	begin(&call, g, "SourceElement=" NAME " SourceAccessPoint=dead SyncType=Clone\n");
	interrupt(&call);
	ck_assert_uint_eq(whole_element(NAME), id);
	ck_assert_uint_eq(whole_put(engine_find(engine, ENGINE_GROUP, 0, "keep"),
				    GROUP_MEMBERS, "\n", NULL),
			  0);
	whole_until(!whole_element(NAME));
	whole_teardown();
}
END_TEST

/* ---- what cannot be recorded --------------------------------------------------------- */

START_TEST(one_that_cannot_be_recorded_is_not_made)
{
	uint64_t g;
	struct engine_command cmd;

	setup();
	g = whole_make(ENGINE_GROUP, "new");
	inserts_that_fail = 1;
	ck_assert_uint_eq(whole_put(g, GROUP_SPEC, LUN " SyncType=Clone\n", &cmd),
			  CIM_RETURN_FAILED);
	ROW_HAS("store", cmd.outcome.sentence, "state store");
	ck_assert_uint_eq(whole_element(NAME), 0);
	ck_assert_uint_eq(whole_n_events(ENGINE_ELEMENT, ENGINE_EVENT_CREATED), 0);
	whole_teardown();
}
END_TEST

START_TEST(one_that_could_not_go_goes_later)
{
	uint64_t g;
	struct whole_call call;

	setup();
	g = whole_make(ENGINE_GROUP, "new");
	begin(&call, g, LUN " SyncType=Clone\n");
	whole_until(whole_element(NAME));
	deletions_that_fail = 1;
	interrupt(&call);
	whole_until(!whole_element(NAME));
	ck_assert_int_eq(deletions_that_fail, 0);
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		what_does_not_agree_is_refused,
		a_call_that_is_given_up_leaves_nothing,
		two_calls_have_the_same_element,
		one_that_is_configured_is_taken,
		a_name_that_another_call_claims_is_not_taken,
		a_stop_takes_it_away,
		a_member_stays_and_comes_back_with_its_access_point,
		one_that_cannot_be_recorded_is_not_made,
		one_that_could_not_go_goes_later,
	};

	return unit_main("accesspoint", tests, ROWS(tests));
}
