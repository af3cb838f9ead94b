/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The policy of engine/priority.c with a clock of the test's own: copies that take a
 * fixed time for each fetch, over simulated seconds.
 *
 * What these lines are for shows when they are broken; then these tests fail:
 *   rest_of(): without users                       low_gets_an_eighth_beside_users
 *   users_active_until(): without n_users          a_request_counts_until_...
 *   set_timer(): without !p->attached              a_timer_that_could_not_...
 *   rest_of(): without higher classes              a_class_makes_way_...
 *   wait_until(): without c->n                     the same, copies_of_a_class_...
 *   priority_group_set(): without look_at()        another_class_takes_effect_at_once
 *   end(): without look_at()                       the_last_fetch_of_another_...
 *   fill_bucket(): filled_ns = now                 asking_often_loses_nothing
 *   put_back(), fill_bucket(): without most        a_bucket_holds_no_more_...
 */

#include "tests/unit.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "conf/cim.h"
#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/priority.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define NEVER UINT64_MAX
#define MIB (UINT64_C(1) << 20)

enum { WINDOW = 4, MAX_COPIES = 12 };

static struct priority priority;
static uint64_t clock_ns;

static uint64_t now(void)
{
	return clock_ns;
}

/* A copy that has always something to fetch, WINDOW fetches at once. */
struct copy {
	struct priority_flow flow;
	struct priority_group *group;
	struct priority_ticket tickets[WINDOW];
	uint64_t ends_ns[WINDOW]; /* NEVER: that place is free */
	uint64_t service_ns;
	bool stopped, hangs;
	unsigned n_ended, n_called;
};

static struct copy copies[MAX_COPIES];
static unsigned n_copies;
static uint64_t user_every_ns, next_user_ns; /* 0: there are no users */

static void fill_places(struct copy *c)
{
	for (unsigned i = 0; i < WINDOW && !c->stopped; i++) {
		if (c->ends_ns[i] != NEVER)
			continue;
		if (!priority_begin(&priority, &c->flow, MIB, &c->tickets[i]))
			return;
		c->ends_ns[i] = c->hangs ? NEVER - 1 : clock_ns + c->service_ns;
	}
}

static void called(struct priority_flow *flow)
{
	struct copy *c = (struct copy *)flow;

	c->n_called++;
	fill_places(c);
}

static void setup(void)
{
	clock_ns = 1000 * SECOND; /* of no meaning */
	priority_init(&priority, NULL, now);
	n_copies = 0;
	user_every_ns = 0;
}

static void teardown(void)
{
	for (unsigned i = 0; i < n_copies; i++) {
		struct copy *c = &copies[i];

		c->stopped = true;
		for (unsigned k = 0; k < WINDOW; k++)
			if (c->ends_ns[k] != NEVER)
				priority_end(&c->tickets[k]);
		priority_cancel_flow(&priority, &c->flow);
		priority_group_unref(c->group);
	}
	/* All counts are back. */
	for (unsigned i = 0; i < PRIORITY_N_CLASSES; i++)
		ck_assert_uint_eq(priority.classes[i].n, 0);
	ck_assert(TAILQ_EMPTY(&priority.waiting));
	priority_done(&priority);
}

static struct copy *add_to(struct priority_group *group, unsigned service_ms)
{
	struct copy *c = &copies[n_copies++];

	*c = (struct copy){ .flow.fn = called,
			    .group = group,
			    .service_ns = service_ms * MS };
	for (unsigned i = 0; i < WINDOW; i++)
		c->ends_ns[i] = NEVER;
	priority_set_flow(&priority, &c->flow, group);
	return c;
}

static struct copy *add(unsigned class, uint64_t limit, unsigned service_ms)
{
	struct priority_group *group;

	ck_assert_int_eq(priority_group_new(&priority, class, limit, &group), 0);
	return add_to(group, service_ms);
}

/* The next end of a fetch. */
static uint64_t next_end(struct copy **ret_copy, unsigned *ret_place)
{
	uint64_t first = NEVER - 1;

	for (unsigned i = 0; i < n_copies; i++)
		for (unsigned k = 0; k < WINDOW; k++)
			if (copies[i].ends_ns[k] < first) {
				first = copies[i].ends_ns[k];
				*ret_copy = &copies[i];
				*ret_place = k;
			}
	return first;
}

static void user_comes(void)
{
	priority_user_begins(&priority);
	priority_user_ends(&priority, clock_ns);
	next_user_ns = clock_ns + user_every_ns;
}

static void fetch_ends(struct copy *c, unsigned place)
{
	c->ends_ns[place] = NEVER;
	c->n_ended++;
	priority_end(&c->tickets[place]);
	fill_places(c);
}

/* Lets a time pass, with the timer set as the policy wants it. */
static void run_for(uint64_t ns)
{
	uint64_t until = clock_ns + ns;

	if (user_every_ns)
		user_comes();
	for (unsigned i = 0; i < n_copies; i++)
		fill_places(&copies[i]);
	for (;;) {
		struct copy *c = NULL;
		unsigned place = 0;
		uint64_t end = next_end(&c, &place), turn = priority.armed_ns;
		uint64_t next = end < turn ? end : turn;

		if (user_every_ns && next_user_ns < next)
			next = next_user_ns;
		if (next >= until)
			break;
		clock_ns = next > clock_ns ? next : clock_ns;
		if (next == turn)
			priority_run(&priority);
		else if (next == end)
			fetch_ends(c, place);
		else
			user_comes();
	}
	clock_ns = until;
}

/* How many fetches end in a time. */
static unsigned ends_in(struct copy *c, uint64_t ns)
{
	unsigned before = c->n_ended;

	run_for(ns);
	return c->n_ended - before;
}

#define BETWEEN(value, least, most)                                                   \
	do {                                                                          \
		unsigned v_ = (value);                                                \
		ck_assert_msg(v_ >= (least) && v_ <= (most), "%s is %u", #value, v_); \
	} while (0)

/* ---- classes ------------------------------------------------------------------------ */

START_TEST(alone_no_class_is_held_up)
{
	for (unsigned class = 0; class < PRIORITY_N_CLASSES; class ++) {
		struct copy *c;

		setup();
		c = add(class, 0, 10);
		/* 4 at a time, each 10 ms. */
		BETWEEN(ends_in(c, SECOND), 396, 400);
		ck_assert_uint_eq(c->n_called, 0);
		teardown();
	}
}
END_TEST

START_TEST(low_gets_an_eighth_beside_users)
{
	struct copy *c;

	setup();
	c = add(CIM_PRIORITY_LOW, 0, 10);
	user_every_ns = 20 * MS;
	/* What is under way when they come still ends. */
	run_for(SECOND);
	/* One of 10 ms, then 70 ms of rest. */
	BETWEEN(ends_in(c, 8 * SECOND), 98, 102);
	/* They have gone: at full speed, soon. */
	user_every_ns = 0;
	BETWEEN(ends_in(c, SECOND), 350, 400);
	teardown();
}
END_TEST

/* However long: a LUN that hangs starves nobody, and holds nobody up when it is over. */
START_TEST(a_request_counts_until_it_is_answered)
{
	struct copy *c;

	setup();
	c = add(CIM_PRIORITY_LOW, 0, 10);
	priority_user_begins(&priority);
	run_for(SECOND);
	BETWEEN(ends_in(c, 80 * SECOND), 980, 1020);
	priority_user_begins(&priority);
	priority_user_ends(&priority, clock_ns);
	run_for(SECOND);
	BETWEEN(ends_in(c, 8 * SECOND), 98, 102);
	priority_user_ends(&priority, clock_ns);
	BETWEEN(ends_in(c, SECOND), 300, 400);
	teardown();
}
END_TEST

START_TEST(others_are_as_fast_beside_users_as_alone)
{
	static const unsigned classes[] = { CIM_PRIORITY_NOT_MANAGED, CIM_PRIORITY_SAME,
					    CIM_PRIORITY_HIGH, CIM_PRIORITY_URGENT };

	for (size_t i = 0; i < ROWS(classes); i++) {
		struct copy *c;

		setup();
		c = add(classes[i], 0, 10);
		user_every_ns = 5 * MS;
		BETWEEN(ends_in(c, SECOND), 396, 400);
		teardown();
	}
}
END_TEST

START_TEST(a_class_makes_way_for_higher_ones)
{
	static const struct {
		unsigned class, other;
		unsigned share; /* 1/share of the time of one fetch after another */
	} rows[] = {
		{ CIM_PRIORITY_LOW, CIM_PRIORITY_NOT_MANAGED, 4 },
		{ CIM_PRIORITY_LOW, CIM_PRIORITY_SAME, 4 },
		{ CIM_PRIORITY_LOW, CIM_PRIORITY_HIGH, 16 },
		{ CIM_PRIORITY_LOW, CIM_PRIORITY_URGENT, 64 },
		{ CIM_PRIORITY_SAME, CIM_PRIORITY_HIGH, 4 },
		{ CIM_PRIORITY_SAME, CIM_PRIORITY_URGENT, 16 },
		{ CIM_PRIORITY_HIGH, CIM_PRIORITY_URGENT, 4 },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct copy *c, *other;
		unsigned before;

		setup();
		other = add(rows[i].other, 0, 7);
		c = add(rows[i].class, 0, 10);
		run_for(SECOND);
		before = other->n_ended;
		BETWEEN(ends_in(c, 64 * SECOND) * rows[i].share, 6200, 6500);
		/* Which are not held up. */
		BETWEEN(other->n_ended - before, 36500, 36600);
		teardown();
	}
}
END_TEST

START_TEST(it_makes_way_for_nobody_else)
{
	static const struct {
		unsigned class, other;
	} rows[] = {
		{ CIM_PRIORITY_NOT_MANAGED, CIM_PRIORITY_URGENT },
		{ CIM_PRIORITY_SAME, CIM_PRIORITY_SAME },
		{ CIM_PRIORITY_SAME, CIM_PRIORITY_NOT_MANAGED },
		{ CIM_PRIORITY_HIGH, CIM_PRIORITY_SAME },
		{ CIM_PRIORITY_LOW, CIM_PRIORITY_LOW },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct copy *c;

		setup();
		c = add(rows[i].class, 0, 10);
		add(rows[i].other, 0, 10);
		BETWEEN(ends_in(c, SECOND), 396, 400);
		teardown();
	}
}
END_TEST

START_TEST(copies_of_a_class_share_its_time_by_turns)
{
	setup();
	for (unsigned i = 0; i < 10; i++)
		add(CIM_PRIORITY_LOW, 0, 10);
	user_every_ns = 20 * MS;
	run_for(SECOND);
	for (unsigned i = 0; i < 10; i++)
		copies[i].n_ended = 0;
	run_for(80 * SECOND);
	/* 1000 turns in all. */
	for (unsigned i = 0; i < 10; i++)
		BETWEEN(copies[i].n_ended, 97, 103);
	teardown();
}
END_TEST

START_TEST(another_class_takes_effect_at_once)
{
	struct copy *low, *high;

	setup();
	high = add(CIM_PRIORITY_HIGH, 0, 10);
	low = add(CIM_PRIORITY_LOW, 0, 200);
	run_for(SECOND);
	/* It rests for 3 s after each fetch, and is let go within no time. */
	ck_assert(low->flow.waits);
	priority_group_set(low->group, CIM_PRIORITY_URGENT);
	ck_assert_uint_eq(priority.armed_ns, 0);
	priority_run(&priority);
	ck_assert(!low->flow.waits);
	ck_assert_uint_eq(priority.classes[CIM_PRIORITY_URGENT].n, WINDOW);
	BETWEEN(ends_in(low, SECOND), 16, 20);
	/* Now the other makes way, and again not. */
	run_for(SECOND);
	BETWEEN(ends_in(high, 10 * SECOND), 240, 260);
	priority_group_set(low->group, CIM_PRIORITY_LOW);
	run_for(SECOND);
	BETWEEN(ends_in(high, SECOND), 396, 400);
	teardown();
}
END_TEST

START_TEST(nobody_waits_for_ever)
{
	struct copy *low, *high;

	/* Also beside one that hangs, */
	setup();
	high = add(CIM_PRIORITY_HIGH, 0, 10);
	high->hangs = true;
	low = add(CIM_PRIORITY_LOW, 0, 10);
	BETWEEN(ends_in(low, 16 * SECOND), 95, 105);
	teardown();
	/* and with a fetch of its own that takes very long: the rest is bounded. */
	setup();
	add(CIM_PRIORITY_URGENT, 0, 10);
	low = add(CIM_PRIORITY_LOW, 0, 60000);
	run_for(400 * SECOND);
	BETWEEN(low->n_ended, 15, 25);
	teardown();
	/* One that hangs does not hold up others of its class either. */
	setup();
	add(CIM_PRIORITY_HIGH, 0, 10);
	low = add(CIM_PRIORITY_LOW, 0, 10);
	low->hangs = true;
	low = add(CIM_PRIORITY_LOW, 0, 10);
	/* That one has four, and each holds up the rest for 4 s. */
	BETWEEN(ends_in(low, 64 * SECOND), 10, 100);
	teardown();
}
END_TEST

/* Whose last fetch was under way when the other asked. */
START_TEST(the_last_fetch_of_another_lets_the_next_one_go)
{
	struct copy *high, *first, *next;

	setup();
	high = add(CIM_PRIORITY_HIGH, 0, 10);
	high->hangs = true;
	fill_places(high);
	first = add(CIM_PRIORITY_LOW, 0, 10);
	fill_places(first);
	first->stopped = true;
	next = add(CIM_PRIORITY_LOW, 0, 10);
	BETWEEN(ends_in(next, SECOND), 5, 7);
	ck_assert_uint_eq(first->n_ended, 1);
	teardown();
}
END_TEST

START_TEST(what_goes_is_not_called)
{
	struct copy *low;

	setup();
	low = add(CIM_PRIORITY_LOW, 0, 10);
	user_every_ns = 20 * MS;
	run_for(SECOND);
	for (unsigned i = 0; !low->flow.waits && i < 100; i++)
		run_for(MS);
	ck_assert(low->flow.waits);
	low->n_called = 0;
	low->stopped = true;
	priority_cancel_flow(&priority, &low->flow);
	run_for(SECOND);
	ck_assert_uint_eq(low->n_called, 0);
	teardown();
}
END_TEST

/* ---- limits --------------------------------------------------------------------------- */

START_TEST(a_limit_is_kept)
{
	static const uint64_t limits[] = { MIB, 10 * MIB, 33333333, 200 * MIB };

	for (size_t i = 0; i < ROWS(limits); i++) {
		uint64_t bytes;
		struct copy *c;

		setup();
		c = add(CIM_PRIORITY_SAME, limits[i], 10);
		bytes = ends_in(c, 20 * SECOND) * MIB;
		/* What it begins with, and the last fetch, come on top. */
		ck_assert_uint_le(bytes, 20 * limits[i] + limits[i] / 10 + MIB);
		ck_assert_uint_ge(bytes + MIB + limits[i] / 10, 20 * limits[i]);
		teardown();
	}
}
END_TEST

START_TEST(the_copies_of_a_relationship_share_its_limit)
{
	unsigned total = 0;
	struct copy *c;

	setup();
	c = add(CIM_PRIORITY_HIGH, 10 * MIB, 10);
	for (unsigned i = 1; i < 5; i++) {
		priority_group_ref(c->group);
		add_to(c->group, 10);
	}
	run_for(20 * SECOND);
	for (unsigned i = 0; i < 5; i++) {
		total += copies[i].n_ended;
		BETWEEN(copies[i].n_ended, 38, 43);
	}
	BETWEEN(total, 198, 202);
	teardown();
}
END_TEST

START_TEST(limits_of_any_size_are_no_trouble)
{
	struct copy *c;

	setup();
	c = add(CIM_PRIORITY_SAME, UINT64_MAX, 10);
	BETWEEN(ends_in(c, SECOND), 396, 400);
	teardown();
	setup();
	c = add(CIM_PRIORITY_SAME, 1, 10);
	BETWEEN(ends_in(c, 3600 * SECOND), 1, 1);
	/* 1 MiB at 1 byte a second: twelve days. */
	BETWEEN(ends_in(c, 13 * 86400 * SECOND), 1, 1);
	teardown();
}
END_TEST

START_TEST(asking_often_loses_nothing)
{
	struct copy *c;

	setup();
	c = add(CIM_PRIORITY_SAME, 1000, 10);
	/* 1.9 bytes come between two questions; the second fetch begins after 1048.6 s. */
	for (unsigned i = 0; i < 555000 && c->n_ended < 2; i++)
		run_for(19 * MS / 10);
	ck_assert_uint_eq(c->n_ended, 2);
	teardown();
}
END_TEST

START_TEST(one_that_rests_for_its_limit_holds_up_nobody)
{
	struct copy *low;

	setup();
	add(CIM_PRIORITY_HIGH, MIB, 10); /* one fetch a second */
	low = add(CIM_PRIORITY_LOW, 0, 10);
	/* Of each second at most 10 ms + 100 ms are High's. */
	BETWEEN(ends_in(low, 10 * SECOND), 3300, 3900);
	teardown();
}
END_TEST

START_TEST(what_was_not_fetched_is_not_counted)
{
	struct priority_ticket ticket;
	struct copy *c;

	setup();
	c = add(CIM_PRIORITY_SAME, MIB, 10);
	for (unsigned i = 0; i < 100; i++) {
		ck_assert(priority_begin(&priority, &c->flow, MIB, &ticket));
		priority_give_up(&ticket, MIB);
		ck_assert_ptr_null(ticket.group);
	}
	ck_assert(priority_begin(&priority, &c->flow, MIB, &ticket));
	ck_assert(!priority_begin(&priority, &c->flow, MIB, &c->tickets[0]));
	priority_end(&ticket);
	priority_end(&ticket); /* is nothing */
	teardown();
}
END_TEST

START_TEST(a_bucket_holds_no_more_than_a_full_one)
{
	struct priority_ticket tickets[64];
	unsigned n = 0;
	struct copy *c;

	setup();
	/* Full are 10 MiB. */
	c = add(CIM_PRIORITY_SAME, 100 * MIB, 10);
	for (unsigned i = 0; i < 4; i++) {
		clock_ns += SECOND;
		ck_assert(priority_begin(&priority, &c->flow, MIB, &tickets[i]));
	}
	/* What was taken out has come in anew. */
	for (unsigned i = 0; i < 4; i++)
		priority_give_up(&tickets[i], MIB);
	clock_ns += 10 * SECOND;
	while (n < 64 && priority_begin(&priority, &c->flow, MIB, &tickets[n]))
		n++;
	BETWEEN(n, 10, 11);
	while (n > 0)
		priority_end(&tickets[--n]);
	teardown();
}
END_TEST

/* ---- the timer -------------------------------------------------------------------------- */

static unsigned n_attached, attach_fails; /* atomic */
static bool has_come;			  /* atomic */

int __real_loop_timer_attach(struct loop *loop, struct loop_timer *timer);
int __wrap_loop_timer_attach(struct loop *loop, struct loop_timer *timer);

int __wrap_loop_timer_attach(struct loop *loop, struct loop_timer *timer)
{
	unsigned n = __atomic_add_fetch(&n_attached, 1, __ATOMIC_ACQ_REL);

	return n <= attach_fails ? -ENOMEM : __real_loop_timer_attach(loop, timer);
}

static void came(struct priority_flow *flow)
{
	(void)flow;
	__atomic_store_n(&has_come, true, __ATOMIC_RELEASE);
}

static bool in_time(bool (*condition)(void))
{
	for (unsigned i = 0; i < 20000 && !condition(); i++)
		usleep(1000);
	return condition();
}

static bool was_tried(void)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&priority.lock);

	return __atomic_load_n(&n_attached, __ATOMIC_ACQUIRE) && !priority.posted &&
	       priority.armed_ns == NEVER;
}

static bool was_called(void)
{
	return __atomic_load_n(&has_come, __ATOMIC_ACQUIRE);
}

START_TEST(a_timer_that_could_not_be_attached_is_tried_again)
{
	struct priority_flow flow = { .fn = came };
	struct priority_ticket ticket;
	struct priority_group *group;
	struct loop *loop;

	attach_fails = 1;
	ck_assert_int_eq(loop_new("check-priority", &loop), 0);
	priority_init(&priority, loop, timefmt_monotonic_ns);
	ck_assert_int_eq(
		priority_group_new(&priority, CIM_PRIORITY_SAME, 10 * MIB, &group), 0);
	priority_set_flow(&priority, &flow, group);
	/* The second, or one a little later, waits. */
	while (priority_begin(&priority, &flow, MIB, &ticket))
		priority_end(&ticket);
	ck_assert(in_time(was_tried));
	while (priority_begin(&priority, &flow, MIB, &ticket))
		priority_end(&ticket);
	ck_assert(in_time(was_called));
	priority_cancel_flow(&priority, &flow);
	priority_group_unref(group);
	priority_done(&priority);
	loop_free(loop);
}
END_TEST

START_TEST(without_a_group_nothing_waits)
{
	struct priority_ticket ticket;
	struct priority_flow flow = { .fn = called };

	setup();
	user_comes();
	ck_assert(priority_begin(&priority, &flow, MIB, &ticket));
	ck_assert_ptr_null(ticket.group);
	priority_end(&ticket);
	priority_cancel_flow(&priority, &flow);
	teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		alone_no_class_is_held_up,
		low_gets_an_eighth_beside_users,
		a_request_counts_until_it_is_answered,
		others_are_as_fast_beside_users_as_alone,
		a_class_makes_way_for_higher_ones,
		it_makes_way_for_nobody_else,
		copies_of_a_class_share_its_time_by_turns,
		another_class_takes_effect_at_once,
		nobody_waits_for_ever,
		the_last_fetch_of_another_lets_the_next_one_go,
		what_goes_is_not_called,
		a_limit_is_kept,
		the_copies_of_a_relationship_share_its_limit,
		limits_of_any_size_are_no_trouble,
		asking_often_loses_nothing,
		one_that_rests_for_its_limit_holds_up_nobody,
		what_was_not_fetched_is_not_counted,
		a_bucket_holds_no_more_than_a_full_one,
		a_timer_that_could_not_be_attached_is_tried_again,
		without_a_group_nothing_waits,
	};

	return unit_main("priority", tests, ROWS(tests));
}
