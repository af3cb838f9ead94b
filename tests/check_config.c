/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "conf/config.h"
#include "conf/setting.h"
#include "conf/strbuf.h"

#define REMOTE "access_point=b\ntarget=iqn.2026-01.a:b\nlun=0\n"
#define A32 "abcdefghijklmnopqrstuvwxyz012345"

static struct config *parse_ok(const char *text)
{
	struct config *c = NULL;
	char *error = NULL;
	int r = config_parse("t.conf", text, strlen(text), &c, &error);

	ck_assert_msg(r == 0, "%s: %d, %s", text, r, error ? error : "");
	ck_assert_ptr_null(error);
	return c;
}

static char *parse_fails(const char *text)
{
	struct config *c = NULL;
	char *error = NULL;
	int r = config_parse("t.conf", text, strlen(text), &c, &error);

	ck_assert_msg(r == -EINVAL, "%s: %d", text, r);
	ck_assert_ptr_null(c);
	ck_assert_ptr_nonnull(error);
	ck_assert_int_eq(error[strlen(error) - 1], '\n');
	return error;
}

/* A directory with one file. */
static char dir[] = "/tmp/lunfs-check-config-XXXXXX";
static char file[sizeof(dir) + 8];

static void start(void)
{
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/file", dir);
}

static void write_file(const char *content, mode_t mode)
{
	int fd;

	unlink(file);
	fd = open(file, O_WRONLY | O_CREAT | O_EXCL, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, content, strlen(content)), strlen(content));
	ck_assert_int_eq(fchmod(fd, mode), 0);
	close(fd);
}

static void stop(void)
{
	unlink(file);
	ck_assert_int_eq(rmdir(dir), 0);
}

START_TEST(an_empty_file_gives_the_defaults)
{
	struct config *c = parse_ok("");

	ck_assert_str_eq(c->path, "t.conf");
	ck_assert_int_eq(c->daemon.state_dir[0], '/');
	ck_assert(!strncmp(c->daemon.initiator_name, "iqn.", 4) ||
		  !strncmp(c->daemon.initiator_name, "eui.", 4) ||
		  !strncmp(c->daemon.initiator_name, "naa.", 4));
	ck_assert_uint_eq(c->daemon.copy_memory, 64u << 20);
	ck_assert_str_eq(c->daemon.default_pool, "");
	ck_assert_uint_eq(c->daemon.job_retention_s, 86400);
	ck_assert_uint_eq(c->daemon.fence_timeout_ms, 7000);
	ck_assert_uint_eq(c->daemon.io_timeout_ms, 30000);
	ck_assert_uint_ge(c->daemon.io_threads, 1);
	ck_assert_uint_le(c->daemon.io_threads, 64);
	ck_assert(!c->daemon.allow_other);
	ck_assert_uint_eq(c->daemon.user, geteuid());
	ck_assert_uint_eq(c->daemon.group, getegid());
	ck_assert_uint_eq(c->daemon.mode, 0660);
	ck_assert_uint_eq(c->n_pools + c->n_access_points + c->n_elements + c->n_settings,
			  0);
	ck_assert_ptr_null(config_find_pool(c, "x"));
	ck_assert_ptr_null(config_find_access_point(c, "x"));
	ck_assert_ptr_null(config_find_element(c, "x"));
	ck_assert_ptr_null(config_find_setting(c, "x"));
	config_free(c);
	config_free(NULL);
}
END_TEST

START_TEST(the_state_directory_of_a_user_lies_in_their_home)
{
	struct config *c;
	char *error;

	/* Every user but root; root's is fixed. */
	if (geteuid() == 0 && (setegid(65534) < 0 || seteuid(65534) < 0))
		return;
	setenv("XDG_STATE_HOME", "/x/state", 1);
	c = parse_ok("");
	ck_assert_str_eq(c->daemon.state_dir, "/x/state/lunfs");
	config_free(c);
	setenv("XDG_STATE_HOME", "relative", 1);
	setenv("HOME", "/home/u", 1);
	c = parse_ok("");
	ck_assert_str_eq(c->daemon.state_dir, "/home/u/.local/state/lunfs");
	config_free(c);
	unsetenv("XDG_STATE_HOME");
	unsetenv("HOME");
	error = parse_fails("");
	ROW_HAS("no HOME", error, "t.conf: state_dir has no default without HOME");
	free(error);
	if (getuid() == 0) {
		ck_assert_int_eq(seteuid(0), 0);
		ck_assert_int_eq(setegid(0), 0);
		c = parse_ok("");
		ck_assert_str_eq(c->daemon.state_dir, "/var/lib/lunfs");
		config_free(c);
	}
}
END_TEST

START_TEST(the_daemon_section_is_read)
{
	struct config *c = parse_ok("[daemon]\n"
				    "state_dir = /var/tmp/a dir ;x\n"
				    "initiator_name = iqn.2026-01.org.example:me\n"
				    "copy_memory = 1G\n"
				    "default_pool = b\n"
				    "job_retention = 1h\n"
				    "fence_timeout = 0.5\n"
				    "io_timeout = 2m\n"
				    "io_threads = 3\n"
				    "allow_other = yes\n"
				    "user = 12345\n"
				    "group = 54321\n"
				    "mode = 640\n"
				    "[pool b]\npath=/b\n[pool a]\npath=/a\ntype=dir\n");

	ck_assert_str_eq(c->daemon.state_dir, "/var/tmp/a dir ;x");
	ck_assert_str_eq(c->daemon.initiator_name, "iqn.2026-01.org.example:me");
	ck_assert_uint_eq(c->daemon.copy_memory, 1u << 30);
	ck_assert_str_eq(c->daemon.default_pool, "b");
	ck_assert_uint_eq(c->daemon.job_retention_s, 3600);
	ck_assert_uint_eq(c->daemon.fence_timeout_ms, 500);
	ck_assert_uint_eq(c->daemon.io_timeout_ms, 120000);
	ck_assert_uint_eq(c->daemon.io_threads, 3);
	ck_assert(c->daemon.allow_other);
	ck_assert_uint_eq(c->daemon.user, 12345);
	ck_assert_uint_eq(c->daemon.group, 54321);
	ck_assert_uint_eq(c->daemon.mode, 0640);
	ck_assert_uint_eq(c->n_pools, 2);
	ck_assert_str_eq(config_find_pool(c, "a")->path, "/a");
	ck_assert_str_eq(config_find_pool(c, "b")->path, "/b");
	ck_assert_uint_eq(config_find_pool(c, "b")->line, 14);
	config_free(c);
	c = parse_ok("[daemon]\nuser = root\n[pool only]\npath=/p\n");
	ck_assert_uint_eq(c->daemon.user, 0);
	ck_assert_uint_eq(c->daemon.group, 0);
	ck_assert_str_eq(c->daemon.default_pool, "only");
	config_free(c);
	c = parse_ok("[pool a]\npath=/a\n[pool b]\npath=/b\n");
	ck_assert_str_eq(c->daemon.default_pool, "");
	config_free(c);
}
END_TEST

START_TEST(elements_have_a_url_or_the_parts_of_one)
{
	const struct config_element *e;
	struct config *c =
		parse_ok("[element z]\nurl = file:///srv//a b;c\n"
			 "access=exclusive\nwrite_cache=through\nio_timeout=5\n"
			 "[element " A32 "_1234567]\naccess_point=ap\n"
			 "target=iqn.2026-01.a:b;c\nlun=7\n"
			 "[element m]\nurl = iscsi://h/iqn.2026-01.a:m/0\n"
			 "[daemon]\nio_timeout=20s\n"
			 "[access_point ap]\nportal=[::1]:860\n");

	ck_assert_uint_eq(c->n_elements, 3);
	ck_assert_str_eq(c->elements[0].name, A32 "_1234567");
	ck_assert_str_eq(c->elements[1].name, "m");
	ck_assert_str_eq(c->elements[2].name, "z");
	e = config_find_element(c, "z");
	ck_assert_str_eq(e->url, "file:///srv/a b;c");
	ck_assert_str_eq(e->access_point, "");
	ck_assert_int_eq(e->access, CONFIG_ACCESS_EXCLUSIVE);
	ck_assert_int_eq(e->write_cache, CONFIG_WRITE_THROUGH);
	ck_assert_uint_eq(e->io_timeout_ms, 5000);
	ck_assert_uint_eq(e->line, 1);
	e = config_find_element(c, A32 "_1234567");
	ck_assert_str_eq(e->url, "iscsi://[::1]:860/iqn.2026-01.a:b;c/7");
	ck_assert_str_eq(e->access_point, "ap");
	e = config_find_element(c, "m");
	ck_assert_str_eq(e->url, "iscsi://h:3260/iqn.2026-01.a:m/0");
	ck_assert_int_eq(e->access, CONFIG_ACCESS_SHARED);
	ck_assert_int_eq(e->write_cache, CONFIG_WRITE_BACK);
	ck_assert_uint_eq(e->io_timeout_ms, 20000);
	config_free(c);
}
END_TEST

START_TEST(null_devices_of_one_size_are_not_the_same)
{
	setenv("LUNFS_TEST_BACKENDS", "1", 1);
	config_free(parse_ok("[element a]\nurl=null:1M\n[element b]\nurl=null:1M\n"));
	unsetenv("LUNFS_TEST_BACKENDS");
}
END_TEST

START_TEST(settings_hold_their_properties_in_canonical_form)
{
	struct config *c =
		parse_ok("[setting s]\nPairing = exact_order\n"
			 "quiesce_command = /bin/sh -c \"a; b\" ; c\n"
			 "thaw_command = t\nshared_method = double-scan\n"
			 "max_bytes_per_second = 10M\ndigest = yes\n"
			 "DesiredCopyMethodology = 2\nOnGroupOrListError=Continue\n"
			 "[setting empty]\n");
	const struct config_setting *s = config_find_setting(c, "s");

	ck_assert_str_eq(s->properties,
			 "DesiredCopyMethodology=Instrumentation decides\n"
			 "OnGroupOrListError=Continue\nPairing=Exact order\n");
	ck_assert_str_eq(s->quiesce_command, "/bin/sh -c \"a; b\" ; c");
	ck_assert_str_eq(s->thaw_command, "t");
	ck_assert_int_eq(s->shared_method, CONFIG_SHARED_DOUBLE_SCAN);
	ck_assert_uint_eq(s->max_bytes_per_second, 10u << 20);
	ck_assert(s->digest);
	s = config_find_setting(c, "empty");
	ck_assert_str_eq(s->properties, "");
	ck_assert_str_eq(s->quiesce_command, "");
	ck_assert_int_eq(s->shared_method, CONFIG_SHARED_NONE);
	ck_assert_uint_eq(s->max_bytes_per_second, 0);
	ck_assert(!s->digest);
	config_free(c);
}
END_TEST

START_TEST(access_points_read_their_secrets)
{
	const struct config_access_point *ap;
	struct config *c;
	char text[512];

	start();
	write_file("s3cret-of-twelve\n", 0600);
	snprintf(text, sizeof(text),
		 "[access_point a]\nportal=host\nuser=u;v\npassword_file=%s\n"
		 "header_digest=yes\n[access_point b]\nportal=10.0.0.1:860\n",
		 file);
	c = parse_ok(text);
	ap = config_find_access_point(c, "a");
	ck_assert_str_eq(ap->portal, "host:3260");
	ck_assert_str_eq(ap->user, "u;v");
	ck_assert_str_eq(ap->password, "s3cret-of-twelve");
	ck_assert_str_eq(ap->target_user, "");
	ck_assert_str_eq(ap->target_password, "");
	ck_assert(ap->header_digest);
	ap = config_find_access_point(c, "b");
	ck_assert_str_eq(ap->portal, "10.0.0.1:860");
	ck_assert_str_eq(ap->user, "");
	ck_assert_str_eq(ap->password, "");
	ck_assert(!ap->header_digest);
	config_free(c);
	stop();
}
END_TEST

START_TEST(wrong_password_files_are_told_without_the_secret)
{
	static const struct {
		const char *content;
		mode_t mode;
		const char *error;
	} rows[] = {
		{ "s3cret\n", 0640, "mode 0640 lets others in; chmod 0600" },
		{ "s3cret\n", 0644, "mode 0644" },
		{ "\n", 0600, "the file is empty" },
		{ "s3cret\ns3cret\n", 0600, "more than one line" },
	};
	char text[512];
	char *error;

	start();
	for (size_t i = 0; i < ROWS(rows); i++) {
		write_file(rows[i].content, rows[i].mode);
		snprintf(text, sizeof(text),
			 "[access_point a]\nportal=host\nuser=u\npassword_file=%s\n",
			 file);
		error = parse_fails(text);
		ROW_HAS(rows[i].error, error, rows[i].error);
		ROW_HAS(rows[i].error, error, "t.conf:4: password_file: ");
		ROW_HAS(rows[i].error, error, file);
		ck_assert_ptr_null(strstr(error, "s3cret"));
		free(error);
	}
	write_file("s3cret\n", 0600);
	snprintf(text, sizeof(text),
		 "[access_point a]\nportal=host\nuser=u\npassword_file=%s\n"
		 "target_user=t\ntarget_password_file=%s\n",
		 file, file);
	error = parse_fails(text);
	ROW_HAS("same secret", error, "hold the same secret");
	ck_assert_ptr_null(strstr(error, "s3cret"));
	free(error);
	stop();
}
END_TEST

START_TEST(problems_name_file_line_and_remedy)
{
	static const struct {
		const char *text;
		const char *error; /* part of it */
	} rows[] = {
		{ "[daemno]\n",
		  "t.conf:1: unknown section \"daemno\"; did you mean \"daemon\"?" },
		{ "[Daemon]\n", "t.conf:1: unknown section \"Daemon\"; did you mean" },
		{ "[zzzzzz]\n", "valid: daemon, pool, access_point, element, setting" },
		{ "[acces_point a]\nportal=h\n", "did you mean \"access_point\"?" },
		{ "[daemon x]\n",
		  "t.conf:1: [daemon] has a name, \"x\"; write [daemon]" },
		{ "[pool]\npath=/p\n",
		  "t.conf:1: [pool] has no name; write [pool NAME]" },
		{ "[pool a b]\npath=/p\n",
		  "t.conf:1: \"a b\" is no name for [pool NAME]" },
		{ "[pool .a]\npath=/p\n", "\".a\" is no name" },
		{ "[pool " A32 "x]\npath=/p\n", "longer than 32 bytes" },
		{ "[element " A32 "x]\n", "has no url" },
		{ "state_dir=/x\n",
		  "t.conf:1: the key \"state_dir\" stands before the first" },
		{ "[daemon]\nstatedir=/x\n",
		  "t.conf:2: unknown key \"statedir\" in [daemon]; did you mean \"state_dir\"?" },
		{ "[daemon]\npassword = s3cret\n",
		  "unknown key \"password\" in [daemon]; valid: " },
		{ "[daemon]\nurl = iscsi://u:s3cret@h/i/0\n", "unknown key \"url\"" },
		{ "[daemon]\nmode=0660\n# c\nmode=0600\n",
		  "t.conf:4: mode is given twice, in line 2 and here; keep one" },
		{ "[daemon]\n[pool a]\npath=/a\n[daemon]\n",
		  "t.conf:4: [daemon] is defined twice, in line 1 and here; keep one" },
		{ "[pool a]\npath=/a\n[pool  a]\npath=/b\n",
		  "t.conf:3: [pool a] is defined twice, in line 1 and here" },
		{ "[element a]\nurl=file:///a\n[element a]\nurl=file:///b\n",
		  "t.conf:3: [element a] is defined twice, in line 1" },
		{ "[daemon]\nstate_dir=\n", "t.conf:2: state_dir has no value" },
		{ "[daemon]\nstate_dir=x\n",
		  "t.conf:2: state_dir is not an absolute path" },
		{ "[daemon]\ninitiator_name=me\n",
		  "t.conf:2: initiator_name: wrong value \"me\"; write an iSCSI name" },
		{ "[daemon]\ncopy_memory=1M\n",
		  "wrong value \"1M\"; write a size from 4M to 64G" },
		{ "[daemon]\ncopy_memory=65G\n", "from 4M to 64G" },
		{ "[daemon]\ncopy_memory=lots\n", "from 4M to 64G" },
		{ "[daemon]\njob_retention=1.5\n", "whole seconds" },
		{ "[daemon]\njob_retention=0\n", "from 1s to 3650d" },
		{ "[daemon]\njob_retention=3651d\n", "from 1s to 3650d" },
		{ "[daemon]\nfence_timeout=99ms\n", "from 100ms to 120s" },
		{ "[daemon]\nfence_timeout=121\n", "from 100ms to 120s" },
		{ "[daemon]\nio_timeout=999ms\n", "from 1s to 600s" },
		{ "[daemon]\nio_timeout=601\n", "from 1s to 600s" },
		{ "[daemon]\nio_threads=0\n", "from 1 to 64" },
		{ "[daemon]\nio_threads=65\n", "from 1 to 64" },
		{ "[daemon]\nallow_other=maybe\n", "write yes or no" },
		{ "[daemon]\nuser=no-such-user-here\n",
		  "write a user of this host or a number" },
		{ "[daemon]\nuser=4294967295\n", "write a user of this host" },
		{ "[daemon]\ngroup=no-such-group-here\n", "write a group of this host" },
		{ "[daemon]\nmode=0661\n", "octal mode of at most 0666" },
		{ "[daemon]\nmode=0777\n", "octal mode" },
		{ "[daemon]\nmode=rw\n", "octal mode" },
		{ "[daemon]\nmode=00660\n", "octal mode" },
		{ "[daemon]\nmode=6\n", "octal mode" },
		{ "[daemon]\ndefault_pool=p\n",
		  "t.conf:2: default_pool: there is no [pool p]; there is none" },
		{ "[daemon]\ndefault_pool=imagse\n[pool images]\npath=/i\n",
		  "there is no [pool imagse]; did you mean \"images\"?" },
		{ "[pool a]\n", "t.conf:1: pool a has no path" },
		{ "[pool a]\npath=p\n", "t.conf:2: path is not an absolute path" },
		{ "[pool a]\ntype=rbd\npath=/p\n",
		  "t.conf:2: pool a: type rbd is not built in; use type = dir" },
		{ "[pool a]\ntype=zfs\npath=/p\n",
		  "type: wrong value \"zfs\"; valid: dir" },
		{ "[pool a]\npath=/p\n[pool b]\npath=/p\n",
		  "t.conf:3: the pools b and a (line 1) have the same path" },
		{ "[access_point a]\n", "t.conf:1: access_point a has no portal" },
		{ "[access_point a]\nportal=h:0\n", "t.conf:2: portal: this is none" },
		{ "[access_point a]\nportal=h\nuser=u\n",
		  "t.conf:3: access_point a: user without password_file; give both or none" },
		{ "[access_point a]\nportal=h\npassword_file=/nonexistent/file\n",
		  "password_file without user" },
		{ "[access_point a]\nportal=h\nuser=u\npassword_file=/nonexistent/file\n",
		  "t.conf:4: password_file: /nonexistent/file: open: No such file" },
		{ "[access_point a]\nportal=h\nuser=u\npassword_file=s3cret\n",
		  "t.conf:4: password_file is not an absolute path" },
		{ "[access_point a]\nportal=h\ntarget_user=u\n",
		  "target_user without target_password_file" },
		{ "[access_point a]\nportal=h\ntarget_user=u\ntarget_password_file=/x\n",
		  "target_user without user" },
		{ "[access_point a]\nportal=h\nheader_digest=crc32c\n",
		  "write yes or no" },
		{ "[element a]\n", "t.conf:1: element a has no url" },
		{ "[element a]\nurl=ftp://h/x\n",
		  "t.conf:2: url: this is no URL of an element" },
		{ "[element a]\nurl=rbd:p/i\n", "url: rbd is not built in" },
		{ "[element a]\nurl=iscsi://u:s3cret@h/iqn.2026-01.a:b/0\n",
		  "t.conf:2: url: a URL holds no user or password; configure an [access_point]" },
		{ "[element a]\nurl=file:///x\nlun=0\n",
		  "t.conf:1: element a: url beside" },
		{ "[element a]\nurl=file:///x\naccess_point=b\n"
		  "[access_point b]\nportal=h\n",
		  "url beside access_point" },
		{ "[element a]\naccess_point=b\nlun=0\n[access_point b]\nportal=h\n",
		  "access_point, target and lun go together" },
		{ "[element a]\naccess_point=b\ntarget=iqn.2026-01.a:b\nlun=0\n",
		  "t.conf:2: access_point: there is no [access_point b]" },
		{ "[element a]\naccess_point=b\ntarget=disk\nlun=0\n[access_point b]\nportal=h\n",
		  "t.conf:3: target: \"disk\" is no iSCSI name" },
		{ "[element a]\naccess_point=b\ntarget=iqn.2026-01.a:b\nlun=16384\n"
		  "[access_point b]\nportal=h\n",
		  "t.conf:4: lun: \"16384\" is no number" },
		{ "[element a]\nurl=file:///x\naccess=exclusiv\n",
		  "t.conf:3: access: wrong value \"exclusiv\"; did you mean \"exclusive\"?" },
		{ "[element a]\nurl=file:///x\naccess=none\n",
		  "valid: shared, exclusive" },
		{ "[element a]\nurl=file:///x\nwrite_cache=write-through\n",
		  "valid: back, through" },
		{ "[element a]\nurl=file:///x\nio_timeout=0\n", "from 1s to 600s" },
		{ "[element b]\nurl=file:///x\n[element a]\nurl=file:////x\n",
		  "t.conf:3: the elements a and b (line 1) are the same LUN or file" },
		{ "[element b]\nurl=iscsi://h/iqn.2026-01.a:b/0\n"
		  "[element a]\naccess_point=p\ntarget=iqn.2026-01.a:b\nlun=0\n"
		  "[access_point p]\nportal=h:3260\n",
		  "t.conf:3: the elements a and b (line 1) are the same LUN or file" },
		{ "[setting s]\nPairng=2\n",
		  "t.conf:2: in [setting]: unknown property \"Pairng\"; did you mean \"Pairing\"?" },
		{ "[setting s]\nthaw_comand=x\n", "did you mean \"thaw_command\"?" },
		{ "[setting s]\nElementName=x\n", "the inherited property ElementName" },
		{ "[setting s]\nPairing=7\n",
		  "t.conf:2: Pairing: \"7\" is not one of its values" },
		{ "[setting s]\nPairing=40000\n", "vendor" },
		{ "[setting s]\nMaximumSkew=1\n", "read-only" },
		{ "[setting s]\nPairing=2\nPairing=3\n",
		  "t.conf:3: Pairing is given twice, in line 2" },
		{ "[setting s]\nshared_method=double\n",
		  "did you mean \"double-scan\"?" },
		{ "[setting s]\nshared_method=quiesce\n",
		  "quiesce without quiesce_command" },
		{ "[setting s]\nmax_bytes_per_second=fast\n", "bytes per second" },
		{ "[setting s]\ndigest=sha1\n", "digest" },
		/* the hazards of the INI form, with their lines */
		{ "[daemon]\n mode=0600\n", "t.conf:2: the line begins with a blank" },
		{ "[daemon\nmode=0600\n", "t.conf:1: the section has no closing ]" },
		{ "[daemon]\nmode\n", "t.conf:2: no = in the line" },
		{ "[daemon]\nmode: 0600\n", "t.conf:2: a : before" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		char *error = parse_fails(rows[i].text);

		ROW_HAS(rows[i].text, error, rows[i].error);
		ck_assert_ptr_null(strstr(error, "s3cret"));
		free(error);
	}
}
END_TEST

START_TEST(each_single_problem_is_told_once)
{
	static const char *const texts[] = {
		"[daemon]\nmode=9\n",
		"[daemno]\nmode=9\nx=y\n",
		"[pool\npath=x\nnonsense=1\n",
		"[pool a\npath=/a\n[pool b]\npath=/b\n",
		"[pool a]\npath=/a\nindented\n",
		"[element a]\n" REMOTE,
		"[element a]\n" REMOTE "[access_point b]\nportal=:\n",
		"[element a]\nurl=ftp:\n[element b]\nurl=file:///b\n",
	};

	for (size_t i = 0; i < ROWS(texts); i++) {
		char *error = parse_fails(texts[i]);

		ck_assert_msg(strchr(error, '\n') == error + strlen(error) - 1,
			      "%s: more than one problem:\n%s", texts[i], error);
		free(error);
	}
}
END_TEST

START_TEST(all_problems_are_told_in_the_order_of_lines)
{
	char *error = parse_fails("[daemon]\n"
				  "modee = 0660\n"
				  "io_threads = 0\n"
				  "[pool p\n"
				  "path = relative\n"
				  "[element e]\n"
				  "access = none\n"
				  " url = file:///x\n"
				  "[element f]\n"
				  "url = file:///x\n"
				  "url = file:///x\n");
	static const char *const wanted[] = {
		"t.conf:2: unknown key",
		"t.conf:3: io_threads",
		"t.conf:4: the section has",
		"t.conf:6: element e has no url",
		"t.conf:7: access",
		"t.conf:8: the line begins",
		"t.conf:11: url is given twice",
	};
	char *line = error;

	for (size_t i = 0; i < ROWS(wanted); i++) {
		ck_assert_msg(!strncmp(line, wanted[i], strlen(wanted[i])),
			      "%s: not in\n%s", wanted[i], error);
		line = strchr(line, '\n') + 1;
	}
	ck_assert_str_eq(line, "");
	free(error);
}
END_TEST

START_TEST(very_many_problems_are_counted)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	unsigned lines = 0;
	char *error;

	for (unsigned i = 0; i < 500; i++)
		strbuf_addf(&b, "[pool p%u\n[pool q%u]\n", i, i);
	error = parse_fails(b.s);
	for (const char *c = error; *c; c++)
		lines += *c == '\n';
	ck_assert_uint_le(lines, 101);
	ROW_HAS("many", error, "t.conf: more than 100 problems; correct these first\n");
	free(error);
}
END_TEST

START_TEST(a_nul_is_told_with_its_line)
{
	static const char text[] = "[daemon]\nmode=06\0"
				   "60\n";
	struct config *c = NULL;
	char *error = NULL;

	ck_assert_int_eq(config_parse("t.conf", text, sizeof(text) - 1, &c, &error),
			 -EINVAL);
	ck_assert_str_eq(error, "t.conf:2: a NUL byte; write plain text\n");
	free(error);
}
END_TEST

START_TEST(a_hundred_thousand_elements_are_read)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	struct config *c;
	char name[32];

	for (unsigned i = 0; i < 100000; i++)
		strbuf_addf(&b, "[element e%u]\nurl=file:///x/%u\n", i, i);
	c = parse_ok(b.s);
	ck_assert_uint_eq(c->n_elements, 100000);
	for (unsigned i = 0; i < 100000; i += 777) {
		snprintf(name, sizeof(name), "e%u", i);
		ck_assert_uint_eq(config_find_element(c, name)->line, 2 * i + 1);
	}
	config_free(c);
}
END_TEST

START_TEST(load_reads_a_file_and_says_why_not)
{
	struct config *c = NULL;
	char *error = NULL;

	start();
	write_file("[pool a]\npath = /a\n", 0644);
	ck_assert_int_eq(config_load(file, &c, &error), 0);
	ck_assert_str_eq(c->path, file);
	ck_assert_str_eq(c->daemon.default_pool, "a");
	config_free(c);
	c = NULL;
	write_file("[pool a]\n", 0644);
	ck_assert_int_eq(config_load(file, &c, &error), -EINVAL);
	ck_assert(!strncmp(error, file, strlen(file)));
	ROW_HAS("load", error, ":1: pool a has no path");
	free(error);
	unlink(file);
	ck_assert_int_eq(config_load(file, &c, &error), -ENOENT);
	ROW_HAS("load", error, "file: read: No such file or directory\n");
	free(error);
	ck_assert_int_eq(config_load(dir, &c, &error), -EISDIR);
	ROW_HAS("load", error, "Is a directory\n");
	free(error);
	ck_assert_ptr_null(c);
	stop();
}
END_TEST

START_TEST(keys_are_unique_and_grouped_by_section)
{
	for (size_t i = 0; i < config_n_keys; i++)
		for (size_t j = 0; j < i; j++) {
			ck_assert(
				strcmp(config_keys[i].section, config_keys[j].section) ||
				strcmp(config_keys[i].key, config_keys[j].key));
			if (!strcmp(config_keys[i].section, config_keys[j].section))
				ck_assert_str_eq(config_keys[i - 1].section,
						 config_keys[i].section);
		}
}
END_TEST

START_TEST(fuzz_every_text_is_taken_or_explained)
{
	static const char valid[] =
		"[daemon]\nstate_dir=/s\nio_timeout=30s\ndefault_pool=p\nmode=0660\n"
		"[pool p]\ntype=dir\npath=/p\n[access_point a]\nportal=[::1]:3260\n"
		"[element e]\naccess_point=a\ntarget=iqn.2026-01.a:b\nlun=0\naccess=shared\n"
		"[element f]\nurl=iscsi://h/iqn.2026-01.a:b/1\nwrite_cache=back\n"
		"[setting s]\nPairing=2\nMultihop=3\nmax_bytes_per_second=1M\n";
	struct unit_random random = unit_random_start("config");
	unsigned n_valid = 0;

	for (unsigned round = 0; round < 8000; round++) {
		struct config *c = NULL;
		char *error = NULL;
		char text[1024];
		size_t len = sizeof(valid) - 1;

		memcpy(text, valid, len);
		len = unit_mutate(&random, text, len, sizeof(text));
		if (!config_parse("t.conf", text, len, &c, &error)) {
			n_valid++;
			config_free(c);
			continue;
		}
		ck_assert_ptr_null(c);
		for (char *line = error; *line; line = strchr(line, '\n') + 1)
			ck_assert(!strncmp(line, "t.conf:", 7));
		ck_assert_int_eq(error[strlen(error) - 1], '\n');
		free(error);
	}
	ck_assert_uint_gt(n_valid, 10);
}
END_TEST

/* For test-man-conf.sh: `section key` of everything that can be configured. */
static int print_keys(void)
{
	for (size_t i = 0; i < config_n_keys; i++)
		printf("%s %s\n", config_keys[i].section, config_keys[i].key);
	for (size_t i = 0; i < SETTING_N_PROPERTIES; i++)
		printf("setting %s\n", setting_names[i]);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	const TTest *const tests[] = {
		an_empty_file_gives_the_defaults,
		the_state_directory_of_a_user_lies_in_their_home,
		the_daemon_section_is_read,
		elements_have_a_url_or_the_parts_of_one,
		null_devices_of_one_size_are_not_the_same,
		settings_hold_their_properties_in_canonical_form,
		access_points_read_their_secrets,
		wrong_password_files_are_told_without_the_secret,
		problems_name_file_line_and_remedy,
		each_single_problem_is_told_once,
		all_problems_are_told_in_the_order_of_lines,
		very_many_problems_are_counted,
		a_nul_is_told_with_its_line,
		a_hundred_thousand_elements_are_read,
		load_reads_a_file_and_says_why_not,
		keys_are_unique_and_grouped_by_section,
		fuzz_every_text_is_taken_or_explained,
	};

	if (argc == 2 && !strcmp(argv[1], "--keys"))
		return print_keys();
	return unit_main("config", tests, ROWS(tests));
}
