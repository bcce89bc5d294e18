/*
 * progress.c - see progress.h. State is global because signals and the terminal are.
 *
 * One line, rewritten at most ten times a second: phase, bar, share, rate, time left. The time left
 * is that of the phase, from the rate since the phase began.
 */
#include "progress.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define QUIET_SECONDS 1.0
#define REDRAW_SECONDS 0.1
#define BAR_CELLS 30

static volatile sig_atomic_t interrupts;

static struct {
    bool enabled;
    bool drawn;
    double start; /* of the first report */
    double phase_start;
    double last_drawn;
    uint64_t phase_first; /* units done when the phase was first seen */
    uint64_t last_done;
    const char *phase;
} bar;

double progress_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void on_signal(int number)
{
    (void)number;
    if (interrupts > 0) {
        _exit(130);
    }
    interrupts = interrupts + 1;
}

void progress_start(bool enabled)
{
    bar.enabled = enabled;
    /* Without SA_RESTART, so that a read from a terminal or pipe ends too. */
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool progress_interrupted(void)
{
    return interrupts > 0;
}

void progress_clear(void)
{
    if (bar.drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        bar.drawn = false;
    }
}

static unsigned terminal_columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
        return 80;
    }
    return size.ws_col;
}

/* 1234567.0 as "1.2M". */
static void format_rate(double rate, char *text, size_t bytes)
{
    const char *units[] = {"", "k", "M", "G"};
    size_t unit = 0;
    while (rate >= 10000 && unit < 3) {
        rate /= 1000;
        unit++;
    }
    snprintf(text, bytes, rate < 100 ? "%.1f%s/s" : "%.0f%s/s", rate, units[unit]);
}

static void draw(uint64_t done, uint64_t total, double now)
{
    double elapsed = now - bar.phase_start;
    double rate = elapsed > 0.05 ? (double)(done - bar.phase_first) / elapsed : 0;
    double share = total > 0 ? (double)done / (double)total : 0;
    share = share > 1 ? 1 : share;
    char cells[BAR_CELLS + 1];
    for (int i = 0; i < BAR_CELLS; i++) {
        cells[i] = i < (int)(share * BAR_CELLS) ? '#' : '-';
    }
    cells[BAR_CELLS] = '\0';
    char speed[32] = "", left[32] = "";
    if (rate > 0) {
        memcpy(speed, ", ", 2);
        format_rate(rate, speed + 2, sizeof(speed) - 2);
    }
    if (rate > 0 && total > done) {
        uint64_t seconds = (uint64_t)((double)(total - done) / rate + 0.5);
        snprintf(left, sizeof(left), ", %" PRIu64 ":%02u left", seconds / 60,
                 (unsigned)(seconds % 60));
    }
    char line[256];
    int length = snprintf(line, sizeof(line), "%-10s [%s] %3.0f %%%s%s", bar.phase, cells,
                          100 * share, speed, left);
    unsigned columns = terminal_columns();
    if (length > 0 && (unsigned)length >= columns) {
        length = (int)columns - 1; /* a line that wraps could not be taken away again */
    }
    fprintf(stderr, "\r%.*s\033[K", length, line);
    fflush(stderr);
    bar.drawn = true;
    bar.last_drawn = now;
}

int progress_report(void *context, const char *phase, uint64_t done, uint64_t total)
{
    (void)context;
    if (interrupts > 0) {
        return 1;
    }
    if (!bar.enabled) {
        return 0;
    }
    double now = progress_clock();
    if (bar.start == 0) {
        bar.start = now;
    }
    if (bar.phase == NULL || strcmp(bar.phase, phase) != 0 || done < bar.last_done) {
        bar.phase = phase;
        bar.phase_start = now;
        bar.phase_first = done;
    }
    bar.last_done = done;
    if (now - bar.start >= QUIET_SECONDS && now - bar.last_drawn >= REDRAW_SECONDS) {
        draw(done, total, now);
    }
    return 0;
}
