/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/daemon.h"

/*
 * The life of the daemon.
 *
 * In the foreground: configuration, mountpoint, dead mounts.  Then, unless -f,
 * one fork, before engine and session exist: neither SQLite's connection nor
 * POSIX locks live through a fork.  The child keeps terminal, stderr and process
 * group until it is ready, so that its sentences are seen and Ctrl-C ends it;
 * the parent waits at a pipe for the one byte that says so, or takes over the
 * child's exit code.  Ready means: mounted, INIT answered, engine started.
 *
 * Threads: this one, the supervisor, waits for signals (signalfd), a wish to
 * stop from the mount (wish_fd) and the end of the loop (ended_fd), and brings
 * about the end.  The threads of the loop carry out requests.  The engine and fs
 * have their own; all are started from on_init(), with the signals blocked, and
 * none before the fork.
 *
 * The end, by a signal or wish: the kernel's dirty pages are written while all
 * still works; what is parked is answered; the engine makes everything durable
 * and ends; the mount goes, lazily where files are open or a shell sits in it;
 * the loop ends; the connection is given up, which breaks what is still open.
 * Requests are answered until the last but two, so that no step can wait for
 * itself.  If the mount has gone by itself (umount, abort), the same without
 * the steps that need it.  A watchdog bounds all of it.
 */

#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/config.h"
#include "conf/log.h"
#include "conf/strbuf.h"
#include "engine/engine.h"
#include "fs/fs.h"
#include "fs/handshake.h"
#include "fs/mount.h"
#include "fs/process.h"
#include "fs/reload.h"
#include "fs/reqloop.h"
#include "fs/watchdog.h"

enum {
	UNMOUNT_TRIES = 10, /* before a mount in use is detached lazily */
	UNMOUNT_PAUSE_MS = 20,
};

struct daemon {
	const struct options *options;
	struct config *config; /* what the engine runs with */
	char *config_path;     /* absolute, to be read again */
	char *mountpoint;      /* absolute */
	int ready_fd;	       /* to the waiting parent; -1 with -f */

	struct engine *engine;
	struct fs *fs;
	struct fuse_session *session;
	struct fs_daemon calls;
	struct mount_entry mount; /* ours */
	struct reqloop *loop;
	int start_error; /* of engine_start() */
	bool is_started;

	int signal_fd, wish_fd, ended_fd;
};

static int set_up(struct daemon *d)
{
	d->signal_fd = process_set_up();
	d->wish_fd = eventfd(0, EFD_CLOEXEC);
	d->ended_fd = eventfd(0, EFD_CLOEXEC);
	if (d->signal_fd < 0 || d->wish_fd < 0 || d->ended_fd < 0) {
		log_error("%s: starting: %s", d->mountpoint, strerror(errno));
		return -EMFILE;
	}
	return 0;
}

/* ---- start ---------------------------------------------------------------- */

/* What fs calls. */
static void on_init(void *opaque)
{
	struct daemon *d = opaque;

	d->start_error = engine_start(d->engine);
	d->is_started = d->start_error == 0;
}

static void on_stop(void *opaque)
{
	struct daemon *d = opaque;
	uint64_t one = 1;

	if (write(d->wish_fd, &one, sizeof(one)) < 0)
		log_error("%s: noting the wish to stop: %s", d->mountpoint,
			  strerror(errno));
}

/* A user's first start: ~/.local/state may not be there yet.  The mode is that of
 * the XDG Base Directory Specification. */
static int make_parents(const char *path)
{
	CLEANUP_FREE char *parent = strdup(path);
	int r;

	if (!parent)
		return -ENOMEM;
	for (char *slash = strchr(parent + 1, '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		r = mkdir(parent, 0700) < 0 ? -errno : 0;
		if (r < 0 && access(parent, F_OK) < 0) {
			log_error("state_dir %s: making %s: %s", path, parent,
				  strerror(-r));
			return r;
		}
		*slash = '/';
	}
	return 0;
}

static int start_engine(struct daemon *d)
{
	const struct config_daemon *conf = &d->config->daemon;
	CLEANUP_FREE char *error = NULL;
	int r = conf->state_dir_is_default ? make_parents(conf->state_dir) : 0;

	if (r < 0)
		return r;
	r = engine_new(d->config, &d->engine, &error);
	if (r < 0) {
		log_error("%s", error ? error : strerror(-r));
		return r;
	}
	r = fs_new(d->engine, d->config, d->mountpoint, &d->fs);
	if (r < 0)
		log_error("%s: building the tree: %s", d->mountpoint, strerror(-r));
	return r;
}

static int new_session(struct daemon *d)
{
	CLEANUP_STRBUF struct strbuf options = STRBUF_INIT;
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int r = -ENOMEM;

	strbuf_addf(&options, "-ofsname=lunfs,subtype=lunfs%s%s%s%s",
		    d->config->daemon.allow_other ? ",allow_other" : "",
		    d->options->debug ? ",debug" : "",
		    *d->options->mount_options ? "," : "", d->options->mount_options);
	if (!options.failed && fuse_opt_add_arg(&args, "lunfs") == 0 &&
	    fuse_opt_add_arg(&args, options.s) == 0) {
		d->session = fuse_session_new(&args, &fs_ops, sizeof(fs_ops), d->fs);
		r = d->session ? 0 : -EINVAL;
	}
	fuse_opt_free_args(&args);
	if (r < 0)
		log_error("%s: making the FUSE session: %s", d->mountpoint, strerror(-r));
	return r;
}

static int mount_session(struct daemon *d)
{
	int r;

	d->calls = (struct fs_daemon){ on_init, on_stop, d };
	fs_set_session(d->fs, d->session);
	fs_set_daemon(d->fs, &d->calls);
	if (fuse_session_mount(d->session, d->mountpoint) != 0) {
		log_error("%s: mounting failed", d->mountpoint);
		return -EIO;
	}
	r = mount_find(d->mountpoint, &d->mount);
	if (r == 0 && !mount_is_lunfs(&d->mount))
		r = -ENOENT;
	if (r < 0) {
		log_error("%s: looking for the new mount: %s", d->mountpoint,
			  strerror(-r));
		fuse_session_unmount(d->session);
		return r;
	}
	return 0;
}

/* Answers INIT, in which on_init() starts the engine. */
static int start_serving(struct daemon *d)
{
	int r = handshake(d->session);
	struct loop *const *loops;
	unsigned n_loops;

	if (r == 0 && !d->is_started)
		r = d->start_error ? d->start_error : -EPROTO;
	if (r < 0) {
		log_error("%s: starting: %s", d->mountpoint, strerror(-r));
		return r;
	}
	loops = engine_loops(d->engine, &n_loops);
	r = reqloop_start(d->session, loops, n_loops, d->ended_fd, &d->loop);
	if (r < 0)
		log_error("%s: starting the threads: %s", d->mountpoint, strerror(-r));
	return r;
}

/* Lets the terminal and the waiting parent go. */
static void say_ready(struct daemon *d)
{
	process_tell_systemd("READY=1\nSTATUS=%s: mounted", d->mountpoint);
	if (d->ready_fd >= 0)
		process_leave_terminal();
	log_info("%s: mounted", d->mountpoint);
	if (d->ready_fd < 0)
		return;
	/* If nobody waits any more, that is no reason to end. */
	if (write(d->ready_fd, "", 1) != 1)
		log_warn("%s: telling that the mount is ready: %s", d->mountpoint,
			 strerror(errno));
	close(d->ready_fd);
	d->ready_fd = -1;
}

/* ---- end ------------------------------------------------------------------ */

/* Whether the mount that a look-up of the mountpoint finds is this daemon's. */
static bool is_our_mount_on_top(struct daemon *d)
{
	struct mount_entry entry;

	return *d->mount.device && mount_find(d->mountpoint, &entry) == 0 &&
	       mount_is_lunfs(&entry) && strcmp(entry.device, d->mount.device) == 0;
}

/* Has the kernel write the dirty pages of what is mapped and open here. */
static void sync_mount(struct daemon *d)
{
	CLEANUP_CLOSE int fd = -1;

	if (!is_our_mount_on_top(d))
		return;
	fd = open(d->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || syncfs(fd) < 0)
		log_warn("%s: writing what is cached: %s", d->mountpoint,
			 strerror(errno));
}

static void stop_engine(struct daemon *d)
{
	CLEANUP_STRBUF struct strbuf reserved = STRBUF_INIT;
	const char *line;

	fs_shutdown(d->fs);
	engine_stop(d->engine, &reserved);
	for (line = reserved.s; *line; line += strspn(line, "\n")) {
		size_t len = strcspn(line, "\n");

		log_info("%s: stays reserved: %.*s", d->mountpoint, (int)len, line);
		line += len;
	}
}

/* Something may just be looking at the tree. */
static int detach_patiently(const char *path)
{
	static const struct timespec pause = { .tv_nsec = UNMOUNT_PAUSE_MS * 1000000L };
	int r = mount_detach(path, false);

	for (unsigned i = 1; r == -EBUSY && i < UNMOUNT_TRIES; i++) {
		nanosleep(&pause, NULL);
		r = mount_detach(path, false);
	}
	return r;
}

static void unmount(struct daemon *d)
{
	struct mount_entry entry;
	int r;

	if (!is_our_mount_on_top(d)) {
		if (mount_find(d->mountpoint, &entry) == 0)
			log_warn("%s: another mount (%s) is on top now and is left alone",
				 d->mountpoint, entry.fstype);
		return;
	}
	r = detach_patiently(d->mountpoint);
	if (r == -EBUSY) {
		log_warn("%s: in use: what is open in it is dead from now on",
			 d->mountpoint);
		r = mount_detach(d->mountpoint, true);
	}
	if (r < 0)
		log_error("%s: unmounting: %s", d->mountpoint, strerror(-r));
}

/* The mount is gone, but after an abort of the connection, a dead one is left.
 * The numbers of devices are used again: only a dead mount can be ours. */
static void clear_own_mount(struct daemon *d)
{
	if (is_our_mount_on_top(d) && mount_probe(d->mountpoint) == -ENOTCONN)
		mount_clear(d->mountpoint);
}

/*
 * Gives up /dev/fuse: requests that still come, from files that stay open after
 * a lazy unmount, fail from now on.  libfuse would then unmount by path what
 * may be another's mount by now; it does not if poll says POLLERR of its
 * descriptor, as that of a pipe's end without the other one does.
 */
static void drop_connection(struct fuse_session *session)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return;
	close(fds[0]);
	dup3(fds[1], fuse_session_fd(session), O_CLOEXEC);
	close(fds[1]);
	fuse_session_unmount(session);
}

/* In whatever state the start left it. */
static void free_all(struct daemon *d)
{
	reqloop_stop(move_ptr(d->loop));
	/* fs notifies through the session and closes handles of the engine. */
	fs_free(move_ptr(d->fs));
	if (d->session) {
		if (fuse_session_fd(d->session) >= 0)
			drop_connection(d->session);
		fuse_session_destroy(move_ptr(d->session));
	}
	engine_free(move_ptr(d->engine));
}

static void end(struct daemon *d, bool is_mounted)
{
	if (watchdog_start(
		    DAEMON_END_TIMEOUT_S,
		    "the end took more than 60 s: ending at once; what was synced is "
		    "there at the next start") < 0)
		log_warn("%s: ending without a limit of time: %s", d->mountpoint,
			 strerror(errno));
	process_tell_systemd("STOPPING=1\nSTATUS=%s: stopping", d->mountpoint);
	if (is_mounted)
		sync_mount(d);
	stop_engine(d);
	if (is_mounted)
		unmount(d);
	else
		clear_own_mount(d);
	free_all(d);
	log_info("%s: ended", d->mountpoint);
	watchdog_stop();
}

/* A start that failed after the mount. */
static void abandon(struct daemon *d)
{
	if (d->is_started)
		stop_engine(d);
	if (is_our_mount_on_top(d))
		mount_detach(d->mountpoint, true);
	free_all(d);
}

/* ---- the supervisor -------------------------------------------------------- */

/* SIGHUP.  The engine runs on with the configuration it was started with. */
static void reload(struct daemon *d)
{
	CLEANUP_STRBUF struct strbuf report = STRBUF_INIT;
	CLEANUP_FREE char *error = NULL;
	struct config *config = NULL;
	bool same_daemon;

	if (config_load(d->config_path, &config, &error) < 0) {
		log_error("%s", error ? error : d->config_path);
		log_error("%s: not taken over: the configuration in force stays",
			  d->config_path);
		return;
	}
	same_daemon = reload_same_daemon(&d->config->daemon, &config->daemon);
	if (engine_reload(d->engine, config, &report) < 0)
		return;
	if (!same_daemon)
		log_warn("%s: [daemon] has changed: that needs a restart",
			 d->config_path);
	if (report.len)
		log_info("%s: read again:\n%s", d->config_path, report.s);
	else if (same_daemon)
		log_info("%s: read again: nothing has changed", d->config_path);
}

/* True if the signal asks for the end. */
static bool take_signal(struct daemon *d)
{
	struct signalfd_siginfo info;

	if (read(d->signal_fd, &info, sizeof(info)) != sizeof(info))
		return false;
	if (info.ssi_signo == SIGHUP) {
		reload(d);
		return false;
	}
	log_info("%s: stopping: %s", d->mountpoint, strsignal((int)info.ssi_signo));
	return true;
}

/* Returns at the end, with whether the mount is still there. */
static bool supervise(struct daemon *d)
{
	struct pollfd fds[] = {
		{ .fd = d->signal_fd, .events = POLLIN },
		{ .fd = d->wish_fd, .events = POLLIN },
		{ .fd = d->ended_fd, .events = POLLIN },
	};

	for (;;) {
		if (poll(fds, 3, -1) < 0)
			continue; /* EINTR */
		if (fds[2].revents) {
			log_info("%s: unmounted: stopping", d->mountpoint);
			return false;
		}
		if (fds[1].revents) {
			log_info("%s: stopping: lunfs --stop", d->mountpoint);
			return true;
		}
		if (fds[0].revents && take_signal(d))
			return true;
	}
}

/* From the fork, or with -f from the start, to the end. */
static int serve(struct daemon *d)
{
	int r = set_up(d);

	if (r == 0)
		r = start_engine(d);
	if (r == 0)
		r = new_session(d);
	if (r == 0)
		r = mount_session(d);
	if (r == 0)
		r = start_serving(d);
	if (r < 0) {
		abandon(d);
		return 1;
	}
	say_ready(d);
	end(d, supervise(d));
	return 0;
}

/* ---- the foreground -------------------------------------------------------- */

/* The parent's exit code: ready, or the child's own. */
static int wait_ready(pid_t child, int fd)
{
	int status;
	ssize_t n;
	char byte;

	do {
		n = read(fd, &byte, 1);
	} while (n < 0 && errno == EINTR);
	if (n == 1)
		return 0;
	while (waitpid(child, &status, 0) < 0) {
		if (errno != EINTR)
			return 1;
	}
	if (WIFSIGNALED(status))
		log_error("the daemon was killed while it started: %s",
			  strsignal(WTERMSIG(status)));
	return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1;
}

static int serve_in_background(struct daemon *d)
{
	int fds[2], r;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		log_error("starting the daemon: %s", strerror(errno));
		return 1;
	}
	if (pid == 0) {
		process_close_inherited(fds[1]);
		d->ready_fd = fds[1];
		return serve(d);
	}
	close(fds[1]);
	r = wait_ready(pid, fds[0]);
	close(fds[0]);
	return r;
}

static int load_config(struct daemon *d)
{
	CLEANUP_FREE char *error = NULL;
	const char *path = d->options->config_path;
	int r = config_load(path, &d->config, &error);

	if (r < 0) {
		log_error("%s", error ? error : strerror(-r));
		return r;
	}
	/* The daemon's directory will be another. */
	d->config_path = *path == '/' ? strdup(path) : realpath(path, NULL);
	if (!d->config_path) {
		log_error("%s: %s", path, strerror(errno));
		return -errno;
	}
	return 0;
}

static int prepare_mountpoint(struct daemon *d)
{
	CLEANUP_STRBUF struct strbuf error = STRBUF_INIT;
	const char *given = d->options->mountpoint;
	int r = mount_resolve(given, &d->mountpoint);

	if (r < 0) {
		log_error("%s: %s%s", given, strerror(-r),
			  r == -ENOENT ? ": make the directory first" : "");
		return r;
	}
	r = mount_prepare(d->mountpoint, d->config->daemon.allow_other, &error);
	if (r < 0)
		log_error("%s", error.s);
	return r;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* libfuse's messages. */
static void log_fuse(enum fuse_log_level level, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void log_fuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	CLEANUP_FREE char *text = NULL;

	if (vasprintf(&text, fmt, ap) < 0)
		return;
	if (level <= FUSE_LOG_ERR)
		log_error("%s", text);
	else if (level <= FUSE_LOG_WARNING)
		log_warn("%s", text);
	else
		log_info("%s", text);
}

int daemon_run(const struct options *options)
{
	struct daemon d = { .options = options,
			    .ready_fd = -1,
			    .signal_fd = -1,
			    .wish_fd = -1,
			    .ended_fd = -1 };
	int code = 1;

	fuse_set_log_func(log_fuse);
	if (load_config(&d) == 0 && prepare_mountpoint(&d) == 0)
		code = options->foreground ? serve(&d) : serve_in_background(&d);
	close_if_open(d.signal_fd);
	close_if_open(d.wish_fd);
	close_if_open(d.ended_fd);
	close_if_open(d.ready_fd);
	config_free(d.config);
	free(d.config_path);
	free(d.mountpoint);
	return code;
}
