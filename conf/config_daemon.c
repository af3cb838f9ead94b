/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/config_daemon.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/iscsiname.h"
#include "conf/value.h"

#define INITIATOR_NAME_FILE "/etc/iscsi/initiatorname.iscsi"
#define INITIATOR_NAME_PREFIX "iqn.2026-01.org.lunfs:"

enum {
	MAX_IO_THREADS = 64,
	PASSWD_SIZE = 16384, /* of one entry of passwd or group */
};

static void wrong_value(struct rawconf *raw, enum rawconf_key key,
			const struct rawconf_value *value, const char *remedy)
{
	rawconf_problem(raw, value->line, "%s: wrong value %s; %s", rawconf_key_name(key),
			name_quote(value->text).s, remedy);
}

char *config_copy(struct rawconf *raw, const char *text)
{
	char *copy = strdup(text ? text : "");

	if (!copy)
		raw->is_out_of_memory = true;
	return copy;
}

void config_read_bool(struct rawconf *raw, const struct rawconf_section *section,
		      enum rawconf_key key, bool *ret_bool)
{
	const struct rawconf_value *value = rawconf_get(section, key);

	if (value && value_bool(value->text, ret_bool) < 0)
		wrong_value(raw, key, value, "write yes or no");
}

void config_read_size(struct rawconf *raw, const struct rawconf_section *section,
		      enum rawconf_key key, uint64_t low, uint64_t high,
		      const char *range, uint64_t *ret_bytes)
{
	const struct rawconf_value *value = rawconf_get(section, key);
	uint64_t bytes;

	if (!value)
		return;
	if (value_size(value->text, &bytes) < 0 || bytes < low || bytes > high)
		wrong_value(raw, key, value, range);
	else
		*ret_bytes = bytes;
}

void config_read_duration(struct rawconf *raw, const struct rawconf_section *section,
			  enum rawconf_key key, unsigned unit_ms, unsigned low,
			  unsigned high, const char *range, unsigned *ret_duration)
{
	const struct rawconf_value *value = rawconf_get(section, key);
	uint64_t ms;

	if (!value)
		return;
	if (value_duration(value->text, &ms) < 0 || ms % unit_ms || ms / unit_ms < low ||
	    ms / unit_ms > high)
		wrong_value(raw, key, value, range);
	else
		*ret_duration = (unsigned)(ms / unit_ms);
}

void config_read_choice(struct rawconf *raw, const struct rawconf_section *section,
			enum rawconf_key key, const char *const *names, size_t n,
			unsigned *ret_index)
{
	const struct rawconf_value *value = rawconf_get(section, key);

	if (!value)
		return;
	for (size_t i = 0; i < n; i++)
		if (!strcmp(names[i], value->text)) {
			*ret_index = (unsigned)i;
			return;
		}
	wrong_value(raw, key, value, name_hint(value->text, names, n).s);
}

bool config_is_path(struct rawconf *raw, const struct rawconf_section *section,
		    enum rawconf_key key)
{
	const struct rawconf_value *value = rawconf_get(section, key);

	if (!value)
		return false;
	if (value->text[0] == '/')
		return true;
	/* The value is not told: it may be the password itself. */
	rawconf_problem(raw, value->line, "%s is not an absolute path; write /...",
			rawconf_key_name(key));
	return false;
}

static char *default_state_dir(struct rawconf *raw)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char *dir = NULL;
	int n;

	if (geteuid() == 0)
		return config_copy(raw, "/var/lib/lunfs");
	if (state && *state == '/')
		n = asprintf(&dir, "%s/lunfs", state);
	else if (home && *home == '/')
		n = asprintf(&dir, "%s/.local/state/lunfs", home);
	else {
		rawconf_problem(raw, 0,
				"state_dir has no default without HOME; add "
				"state_dir = /PATH to [daemon]");
		return config_copy(raw, "");
	}
	if (n >= 0)
		return dir;
	raw->is_out_of_memory = true;
	return NULL;
}

/* The name that the host's own initiator uses, into name; false if there is
 * none. */
static bool read_initiator_name(char name[static ISCSINAME_MAX_LEN + 1])
{
	FILE *f = fopen(INITIATOR_NAME_FILE, "re");
	char line[512], found[ISCSINAME_MAX_LEN + 1];
	bool is_found = false;

	if (!f)
		return false;
	while (!is_found && fgets(line, sizeof(line), f))
		is_found = sscanf(line, " InitiatorName = %223s", found) == 1 &&
			   !iscsiname_check(found);
	fclose(f);
	if (is_found)
		memcpy(name, found, sizeof(found));
	return is_found;
}

static char *default_initiator_name(struct rawconf *raw)
{
	char name[ISCSINAME_MAX_LEN + 1] = INITIATOR_NAME_PREFIX;
	char *host = name + sizeof(INITIATOR_NAME_PREFIX) - 1;

	if (read_initiator_name(name))
		return config_copy(raw, name);
	if (gethostname(host, HOST_NAME_MAX) < 0 || !*host)
		strcpy(host, "localhost");
	for (; *host; host++)
		*host = isalnum((unsigned char)*host) || *host == '.' ?
				(char)tolower((unsigned char)*host) :
				'-';
	return config_copy(raw, name);
}

static void build_initiator_name(struct rawconf *raw,
				 const struct rawconf_section *section,
				 struct config_daemon *daemon)
{
	const struct rawconf_value *value =
		rawconf_get(section, RAWCONF_DAEMON_INITIATOR_NAME);

	if (value && iscsiname_check(value->text) < 0)
		wrong_value(
			raw, RAWCONF_DAEMON_INITIATOR_NAME, value,
			"write an iSCSI name such as iqn.2026-01.org.example:host of at "
			"most 223 bytes");
	daemon->initiator_name =
		value ? config_copy(raw, value->text) : default_initiator_name(raw);
}

static void build_io_threads(struct rawconf *raw, const struct rawconf_section *section,
			     struct config_daemon *daemon)
{
	const struct rawconf_value *value =
		rawconf_get(section, RAWCONF_DAEMON_IO_THREADS);
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t threads = cores < 1 ? 1 : (uint64_t)cores;

	if (!value && threads > MAX_IO_THREADS)
		threads = MAX_IO_THREADS;
	if (value && (value_number(value->text, &threads) < 0 || !threads ||
		      threads > MAX_IO_THREADS))
		wrong_value(raw, RAWCONF_DAEMON_IO_THREADS, value,
			    "write a number from 1 to 64");
	daemon->io_threads = (unsigned)threads;
}

static bool find_user(const char *name, uid_t *ret_uid, gid_t *ret_gid)
{
	CLEANUP_FREE char *buf = malloc(PASSWD_SIZE);
	struct passwd pw, *found = NULL;
	uint64_t uid;

	if (!buf)
		return false;
	if (value_number(name, &uid) < 0) {
		getpwnam_r(name, &pw, buf, PASSWD_SIZE, &found);
	} else {
		if (uid >= (uid_t)-1)
			return false;
		*ret_uid = (uid_t)uid;
		getpwuid_r((uid_t)uid, &pw, buf, PASSWD_SIZE, &found);
		if (!found)
			return true;
	}
	if (!found)
		return false;
	*ret_uid = found->pw_uid;
	*ret_gid = found->pw_gid;
	return true;
}

static bool find_group(const char *name, gid_t *ret_gid)
{
	CLEANUP_FREE char *buf = malloc(PASSWD_SIZE);
	struct group gr, *found = NULL;
	uint64_t gid;

	if (!buf)
		return false;
	if (!value_number(name, &gid)) {
		if (gid >= (gid_t)-1)
			return false;
		*ret_gid = (gid_t)gid;
		return true;
	}
	getgrnam_r(name, &gr, buf, PASSWD_SIZE, &found);
	if (found)
		*ret_gid = found->gr_gid;
	return found;
}

static void build_owner(struct rawconf *raw, const struct rawconf_section *section,
			struct config_daemon *daemon)
{
	const struct rawconf_value *user = rawconf_get(section, RAWCONF_DAEMON_USER);
	const struct rawconf_value *group = rawconf_get(section, RAWCONF_DAEMON_GROUP);

	daemon->user = geteuid();
	daemon->group = getegid();
	if (user && !find_user(user->text, &daemon->user, &daemon->group))
		wrong_value(raw, RAWCONF_DAEMON_USER, user,
			    "write a user of this host or a number");
	if (group && !find_group(group->text, &daemon->group))
		wrong_value(raw, RAWCONF_DAEMON_GROUP, group,
			    "write a group of this host or a number");
}

static void build_mode(struct rawconf *raw, const struct rawconf_section *section,
		       struct config_daemon *daemon)
{
	const struct rawconf_value *value = rawconf_get(section, RAWCONF_DAEMON_MODE);
	size_t len = value ? strlen(value->text) : 0;
	unsigned long mode;

	daemon->mode = 0660;
	if (!value)
		return;
	mode = len <= 4 && strspn(value->text, "01234567") == len ?
		       strtoul(value->text, NULL, 8) :
		       ULONG_MAX;
	if (len < 3 || mode & ~0666ul)
		wrong_value(raw, RAWCONF_DAEMON_MODE, value,
			    "write an octal mode of at most 0666, such as 0660");
	else
		daemon->mode = (mode_t)mode;
}

void config_daemon_build(struct rawconf *raw, const struct rawconf_section *section,
			 struct config_daemon *daemon)
{
	daemon->state_dir_is_default =
		!config_is_path(raw, section, RAWCONF_DAEMON_STATE_DIR);
	daemon->state_dir =
		daemon->state_dir_is_default ?
			default_state_dir(raw) :
			config_copy(
				raw,
				rawconf_get(section, RAWCONF_DAEMON_STATE_DIR)->text);
	build_initiator_name(raw, section, daemon);
	daemon->copy_memory = 64ull << 20;
	config_read_size(raw, section, RAWCONF_DAEMON_COPY_MEMORY, 4ull << 20,
			 64ull << 30, "write a size from 4M to 64G",
			 &daemon->copy_memory);
	daemon->job_retention_s = 24 * 60 * 60;
	config_read_duration(
		raw, section, RAWCONF_DAEMON_JOB_RETENTION, 1000, 1, 3650u * 24 * 60 * 60,
		"write whole seconds, or a number with s, m, h or d, from 1s to "
		"3650d",
		&daemon->job_retention_s);
	daemon->fence_timeout_ms = 7000;
	config_read_duration(
		raw, section, RAWCONF_DAEMON_FENCE_TIMEOUT, 1, 100, 120000,
		"write seconds, or a number with ms, s or m, from 100ms to 120s",
		&daemon->fence_timeout_ms);
	daemon->io_timeout_ms = 30000;
	config_read_duration(
		raw, section, RAWCONF_DAEMON_IO_TIMEOUT, 1, 1000, 600000,
		"write seconds, or a number with ms, s or m, from 1s to 600s",
		&daemon->io_timeout_ms);
	build_io_threads(raw, section, daemon);
	config_read_bool(raw, section, RAWCONF_DAEMON_ALLOW_OTHER, &daemon->allow_other);
	build_owner(raw, section, daemon);
	build_mode(raw, section, daemon);
}
