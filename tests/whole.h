/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TESTS_WHOLE_H
#define LUNFS_TESTS_WHOLE_H

/*
 * The whole engine over files, through engine.h as fs/ uses it: no root, no target,
 * no mount.  For tests of the check library: what fails ends the test.
 *
 * Elements a, b, c (exclusive), s (shared), f (exclusive, through the fault back end
 * with the rules of whole_rules()); each of WHOLE_LUN bytes, of which every other
 * 64 KiB are a hole.  One pool, p.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

enum { WHOLE_LUN = 4 << 20, WHOLE_CHUNK = 65536, WHOLE_DEADLINE_S = 30 };

extern char whole_dir[64];
extern struct engine *engine;

void whole_setup(void);
void whole_teardown(void);
int whole_start(void); /* of a stopped one; -errno */
void whole_stop(void);
/* Lines for [daemon], from the next start on. */
void whole_daemon(const char *lines);
/* Reads the configuration again, with those lines; what is reported, a static buffer. */
const char *whole_reload(void);
/* Rules of the element f, from now on; "" = none. */
void whole_rules(const char *text);
/* "DIR/file" of a printf format; one of a few static buffers. */
const char *whole_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Waits until a condition holds; what it was waiting for is in the message. */
#define whole_until(condition)                                                       \
	do {                                                                         \
		for (int i_ = 0; !(condition) && i_ < WHOLE_DEADLINE_S * 1000; i_++) \
			usleep(1000);                                                \
		ck_assert_msg((condition), "not in time: %s", #condition);           \
	} while (0)

/* ---- commands ------------------------------------------------------------------ */

/* Runs a command to its end: the outcome's code. */
unsigned whole_run(struct engine_command cmd, struct engine_command *ret_cmd);
/* Sends a command, and waits for the answer of one. */
struct whole_call {
	struct engine_command cmd;
	bool done;
};
void whole_send(struct whole_call *call);
void whole_wait(struct whole_call *call);

uint64_t whole_make(enum engine_class class, const char *name);
/* A new exclusive element of a file DIR/name of zeros, which is ready. */
void whole_file(const char *name, uint64_t size);
/* A group with members. */
uint64_t whole_group(const char *name, const char *members);
unsigned whole_put(uint64_t group, unsigned file, const char *text,
		   struct engine_command *ret_cmd);
/* A new group `name` whose spec has to be answered with `code`. */
uint64_t whole_replica(const char *name, const char *spec, unsigned code);
/* Writes an operation that has to be answered with `code`. */
void whole_control(uint64_t group, const char *operation, unsigned code);
unsigned whole_remove(enum engine_class class, uint64_t id);
/* A spec of one parameter or property a line, without [Run]: that has to be the code. */
struct engine_command whole_spec(uint64_t group, const char *text, unsigned code);
void whole_write_element(const char *name, enum element_file file, const char *text);
/* An exclusive element over a new file DIR/NAME of that many bytes, all hole; scheme:
 * "file:", or that of the fault back end. */
void whole_add(const char *name, const char *scheme, off_t size);
/* Through the fault back end, with the rules of the file DIR/NAME.rules. */
void whole_add_faulty(const char *name, off_t size);
bool whole_is_ready(const char *element);
/* Runs SQL on the state store, behind the engine's back. */
void whole_sql(const char *sql);

/* ---- looking --------------------------------------------------------------------- */

uint64_t whole_element(const char *name); /* its id, or 0 */
struct group_info whole_info(uint64_t group);
struct pair_info whole_pair(uint64_t group, unsigned n);
struct job_info whole_job(uint64_t group); /* the newest one */
unsigned whole_state(uint64_t group);
void whole_wait_state(uint64_t group, unsigned copy_state);
/* A list file; one of a few static buffers. */
const char *whole_list(enum engine_class class, uint64_t id, unsigned file);
/* The number of files in the pool whose name begins so. */
unsigned whole_files(const char *prefix);

/* Events of a file of an object since whole_forget(). */
unsigned whole_events(enum engine_class class, uint64_t id, unsigned file);
unsigned whole_n_events(enum engine_class class, enum engine_event_kind kind);
void whole_forget(void);

/* ---- data ------------------------------------------------------------------------ */

struct engine_handle *whole_open(const char *element, bool write);
/* A handle's read of one chunk: 0 or -errno. */
int whole_read(struct engine_handle *h, uint64_t chunk, unsigned char *buf);
/* Writes one chunk that consists of a byte. */
int whole_write(struct engine_handle *h, uint64_t chunk, unsigned char byte);
/* The same with an open of its own; 0 is asserted. */
void whole_fill(const char *element, uint64_t chunk, unsigned char byte);
/* The whole content of an element, through the engine. */
void whole_content(const char *element, unsigned char *buf);
/* Whether it is that. */
void whole_is(const char *element, const unsigned char *buf);

/* A change that is sent, and waited for later. */
struct whole_io {
	struct engine_io io;
	int error;
	bool done;
	unsigned char buf[WHOLE_CHUNK];
};
void whole_write_begin(struct whole_io *w, struct engine_handle *h, uint64_t chunk,
		       unsigned char byte);
int whole_write_end(struct whole_io *w);
bool whole_write_is_done(struct whole_io *w);

#endif
