/* Makes calls fail on files below a folder, as they do on file systems that lack them. For LD_PRELOAD.

   FAILING=      words like flock=38: a call, and the errno that it gives; "fsync_folder" is fsync of a folder
   FAILING_BELOW the folder
   FAILING_LOG   a file that gets the name of each call that was made to fail, a line each
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static int chosen(const char *call) {
    const char *words = getenv("FAILING");
    size_t length = strlen(call);
    for (const char *word = words; word && *word; word = strchr(word, ' ') ? strchr(word, ' ') + 1 : NULL)
        if (!strncmp(word, call, length) && word[length] == '=') return atoi(word + length + 1);
    return 0;
}

/* The errno with which the call fails on this path; 0 if it goes through. */
static int fails(const char *call, const char *path) {
    int number = chosen(call);
    const char *below = getenv("FAILING_BELOW"), *log = getenv("FAILING_LOG");
    char absolute[PATH_MAX];
    if (!number || !below || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(absolute, sizeof absolute / 2)) return 0;
        strcat(absolute, "/");
        strncat(absolute, path, sizeof absolute / 2 - 2);
        path = absolute;
    }
    if (strncmp(path, below, strlen(below))) return 0;
    if (log) {
        int file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
        char line[64];
        int length = snprintf(line, sizeof line, "%s\n", call);
        if (write(file, line, length) < 0) abort();
        syscall(SYS_close, file);
    }
    errno = number;
    return number;
}

static int fails_on(const char *call, int descriptor) {
    char link[64], path[PATH_MAX];
    if (!chosen(call)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(call, path);
}

/* Nobody has an entry in passwd. */
int getpwuid_r(uid_t user, struct passwd *entry, char *buffer, size_t size, struct passwd **found) {
    if (!chosen("getpwuid")) return ((int (*)(uid_t, struct passwd *, char *, size_t, struct passwd **))
        dlsym(RTLD_NEXT, "getpwuid_r"))(user, entry, buffer, size, found);
    *found = NULL;
    return 0;
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

int flock(int fd, int how) { return fails_on("flock", fd) ? -1 : REAL(int, flock, int, int)(fd, how); }

static int locks(int fd, int command) {
    return (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK) && fails_on("fcntl", fd);
}
int fcntl(int fd, int command, ...) {
    va_list more;
    va_start(more, command);
    void *argument = va_arg(more, void *);
    va_end(more);
    return locks(fd, command) ? -1 : REAL(int, fcntl, int, int, void *)(fd, command, argument);
}
int fcntl64(int fd, int command, ...) {
    va_list more;
    va_start(more, command);
    void *argument = va_arg(more, void *);
    va_end(more);
    return locks(fd, command) ? -1 : REAL(int, fcntl64, int, int, void *)(fd, command, argument);
}

int link(const char *from, const char *to) {
    return fails("link", to) ? -1 : REAL(int, link, const char *, const char *)(from, to);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    return fails("link", to) ? -1 : REAL(int, linkat, int, const char *, int, const char *, int)(a, from, b, to, flags);
}
int symlink(const char *target, const char *path) {
    return fails("symlink", path) ? -1 : REAL(int, symlink, const char *, const char *)(target, path);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned int flags) {
    return flags && fails("exchange", to)
        ? -1 : REAL(int, renameat2, int, const char *, int, const char *, unsigned int)(a, from, b, to, flags);
}

int fsync(int fd) {
    struct stat found;
    const char *call = !fstat(fd, &found) && S_ISDIR(found.st_mode) ? "fsync_folder" : "fsync";
    return fails_on(call, fd) ? -1 : REAL(int, fsync, int)(fd);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    return fd >= 0 && fails_on("mmap", fd) ? MAP_FAILED
        : REAL(void *, mmap, void *, size_t, int, int, int, off_t)(address, length, protection, flags, fd, offset);
}
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset) {
    return fd >= 0 && fails_on("mmap", fd) ? MAP_FAILED
        : REAL(void *, mmap64, void *, size_t, int, int, int, off64_t)(address, length, protection, flags, fd, offset);
}

int chmod(const char *path, mode_t mode) {
    return fails("chmod", path) ? -1 : REAL(int, chmod, const char *, mode_t)(path, mode);
}
int fchmod(int fd, mode_t mode) { return fails_on("chmod", fd) ? -1 : REAL(int, fchmod, int, mode_t)(fd, mode); }
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    return fails("chmod", path) ? -1 : REAL(int, fchmodat, int, const char *, mode_t, int)(folder, path, mode, flags);
}

int utimensat(int folder, const char *path, const struct timespec times[2], int flags) {
    int failed = path ? fails("utime", path) : fails_on("utime", folder);
    return failed ? -1 : REAL(int, utimensat, int, const char *, const struct timespec *, int)(folder, path, times, flags);
}
int futimens(int fd, const struct timespec times[2]) {
    return fails_on("utime", fd) ? -1 : REAL(int, futimens, int, const struct timespec *)(fd, times);
}
int utimes(const char *path, const struct timeval times[2]) {
    return fails("utime", path) ? -1 : REAL(int, utimes, const char *, const struct timeval *)(path, times);
}
