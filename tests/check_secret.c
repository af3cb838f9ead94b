/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "conf/secret.h"

#define A51 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A255 A51 A51 A51 A51 A51

static char dir[] = "/tmp/lunfs-check-secret-XXXXXX";
static char file[sizeof(dir) + 8];

static void start(void)
{
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/secret", dir);
}

static void stop(void)
{
	unlink(file);
	ck_assert_int_eq(rmdir(dir), 0);
}

static void write_file(const char *content, size_t len, mode_t mode)
{
	int fd;

	unlink(file);
	fd = open(file, O_WRONLY | O_CREAT | O_EXCL, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, content, len), len);
	ck_assert_int_eq(fchmod(fd, mode), 0);
	close(fd);
}

START_TEST(one_line_is_read_without_its_newline)
{
	static const struct {
		const char *content;
		const char *secret;
	} rows[] = {
		{ "s3cret", "s3cret" },
		{ "s3cret\n", "s3cret" },
		{ " a b \n", " a b " },
		{ "x", "x" },
		{ A255, A255 },
		{ A255 "\n", A255 },
		{ "\xc3\xa4;#\n", "\xc3\xa4;#" },
	};

	start();
	for (size_t i = 0; i < ROWS(rows); i++) {
		char *secret = NULL;
		char error[256] = "";

		write_file(rows[i].content, strlen(rows[i].content), i % 2 ? 0600 : 0400);
		ROW_EQ(rows[i].content, secret_read(file, &secret, error, sizeof(error)),
		       0);
		ROW_STR_EQ(rows[i].content, secret, rows[i].secret);
		secret_free(secret);
	}
	secret_free(NULL);
	stop();
}
END_TEST

START_TEST(other_contents_are_refused_and_not_told)
{
	static const struct {
		const char *content;
		size_t len;
		const char *error;
	} rows[] = {
		{ "", 0, "empty" },
		{ "\n", 1, "empty" },
		{ "s3cret\n\n", 8, "more than one line" },
		{ "s3cret\nmore", 11, "more than one line" },
		{ "s3cret\r\n", 8, "carriage return" },
		{ "s3c\0ret\n", 8, "NUL" },
		{ A255 "x", 256, "longer than 255" },
		{ A255 "x\n", 257, "longer than 255" },
		{ A255 "xyz", 258, "longer than 255" },
	};

	start();
	for (size_t i = 0; i < ROWS(rows); i++) {
		char *secret = NULL;
		char error[256] = "";

		write_file(rows[i].content, rows[i].len, 0600);
		ROW_EQ(rows[i].error, secret_read(file, &secret, error, sizeof(error)),
		       -EINVAL);
		ROW_HAS(rows[i].error, error, rows[i].error);
		ROW_HAS(rows[i].error, error, file);
		ck_assert_ptr_null(strstr(error, "s3c"));
		ck_assert_ptr_null(secret);
	}
	stop();
}
END_TEST

START_TEST(a_file_that_others_may_use_is_refused)
{
	static const mode_t modes[] = { 0640, 0604, 0660, 0644, 0610, 0700, 0620, 0601 };

	start();
	for (size_t i = 0; i < ROWS(modes); i++) {
		char *secret = NULL;
		char error[256] = "", text[16];

		write_file("s3cret\n", 7, modes[i]);
		snprintf(text, sizeof(text), "mode %04o", (unsigned)modes[i]);
		ROW_EQ(text, secret_read(file, &secret, error, sizeof(error)), -EPERM);
		ROW_HAS(text, error, text);
		ck_assert_ptr_null(secret);
	}
	stop();
}
END_TEST

START_TEST(another_users_file_is_refused)
{
	char *secret = NULL;
	char error[256] = "";

	start();
	write_file("s3cret\n", 7, 0600);
	/* Only root can give a file away; anyone else has no such file to read. */
	if (geteuid() == 0) {
		ck_assert_int_eq(chown(file, 12345, 12345), 0);
		ck_assert_int_eq(secret_read(file, &secret, error, sizeof(error)),
				 -EPERM);
		ROW_HAS("owner", error, "owned by user 12345");
	}
	stop();
}
END_TEST

START_TEST(what_is_no_file_is_refused)
{
	char *secret = NULL;
	char error[256] = "";

	start();
	ck_assert_int_eq(secret_read(file, &secret, error, sizeof(error)), -ENOENT);
	ROW_HAS("missing", error, "No such file");
	ck_assert_int_eq(secret_read(dir, &secret, error, sizeof(error)), -EINVAL);
	ROW_HAS("directory", error, "not a regular file");
	ck_assert_int_eq(mkfifo(file, 0600), 0);
	ck_assert_int_eq(secret_read(file, &secret, error, sizeof(error)), -EINVAL);
	ROW_HAS("fifo", error, "not a regular file");
	ck_assert_ptr_null(secret);
	stop();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		one_line_is_read_without_its_newline,
		other_contents_are_refused_and_not_told,
		a_file_that_others_may_use_is_refused,
		another_users_file_is_refused,
		what_is_no_file_is_refused,
	};

	return unit_main("secret", tests, ROWS(tests));
}
