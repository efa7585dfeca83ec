"""The modules and names that POSIX has and Windows lacks."""

MODULES = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "posix", "syslog")
OS_NAMES = """
    chown fchmod fchown fdatasync fork forkpty fpathconf fstatvfs getegid geteuid getgid getgroups
    getloadavg getpgid getpgrp getpriority getsid getuid initgroups killpg lchown lockf mkfifo mknod
    nice openpty pathconf pipe2 posix_fadvise posix_fallocate posix_spawn pread preadv pwrite
    pwritev readv register_at_fork sched_getaffinity sched_setaffinity sched_yield sendfile setegid
    seteuid setgid setuid setpgid setpriority setsid statvfs sync sysconf tcgetpgrp ttyname uname
    wait3 wait4 waitid writev O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_NOCTTY O_SYNC
""".split()
SIGNALS = """
    SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGXCPU
    SIGXFSZ SIG_BLOCK SIG_SETMASK SIG_UNBLOCK alarm pthread_kill pthread_sigmask pause setitimer
    sigpending sigtimedwait sigwait sigwaitinfo siginterrupt
""".split()
