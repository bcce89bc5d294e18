/*
 * plot.c - queries per second over recall, as an SVG drawing.
 *
 * Both axes are logarithmic: the horizontal one in the share of neighbours that was missed, so that
 * 0.9, 0.99 and 0.999 are equally far apart.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "measure.h"

#define WIDTH 720
#define HEIGHT 440
#define LEFT 80
#define RIGHT 24
#define TOP 48
#define BOTTOM 56
#define LEAST_MISSED 1e-4 /* recall beyond 0.9999 is drawn at the edge */

struct axes {
    double first_missed, last_missed; /* left and right end */
    double least_qps, largest_qps;    /* powers of ten */
};

static double missed(double recall)
{
    return recall > 1 - LEAST_MISSED ? LEAST_MISSED : 1 - recall;
}

static double place_x(const struct axes *axes, double recall)
{
    double share =
        log(axes->first_missed / missed(recall)) / log(axes->first_missed / axes->last_missed);
    return LEFT + share * (WIDTH - LEFT - RIGHT);
}

static double place_y(const struct axes *axes, double qps)
{
    double share = log(qps / axes->least_qps) / log(axes->largest_qps / axes->least_qps);
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
}

static struct axes choose_axes(const struct evaluation *evaluation)
{
    double least = evaluation->exact_qps, largest = evaluation->exact_qps;
    double first = 0, last = 1;
    for (size_t i = 0; i < evaluation->n_points; i++) {
        const struct point *point = &evaluation->points[i];
        least = point->qps < least ? point->qps : least;
        largest = point->qps > largest ? point->qps : largest;
        first = missed(point->recall) > first ? missed(point->recall) : first;
        last = missed(point->recall) < last ? missed(point->recall) : last;
    }
    least = least > 0 ? least : 1;
    largest = largest > least ? largest : least;
    struct axes axes = {first * 1.1, last / 1.1, pow(10, floor(log10(least))),
                        pow(10, floor(log10(largest)) + 1)};
    return axes;
}

static void draw_grid(FILE *file, const struct axes *axes)
{
    static const double recalls[] = {0.1,  0.3,  0.5,   0.7,   0.8,   0.9,   0.95,
                                     0.98, 0.99, 0.995, 0.998, 0.999, 0.9999};
    for (size_t i = 0; i < ARRAY_LENGTH(recalls); i++) {
        double x = place_x(axes, recalls[i]);
        if (x < LEFT || x > WIDTH - RIGHT) {
            continue;
        }
        fprintf(file, "<path class=\"grid\" d=\"M%.1f %dV%d\"/>\n", x, TOP, HEIGHT - BOTTOM);
        fprintf(file, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n", x,
                HEIGHT - BOTTOM + 18, recalls[i]);
    }
    for (double qps = axes->least_qps; qps <= axes->largest_qps * 1.01; qps *= 10) {
        double y = place_y(axes, qps);
        fprintf(file, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>\n", LEFT, y, WIDTH - RIGHT);
        fprintf(file, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.0f</text>\n", LEFT - 8,
                y + 4, qps);
    }
}

/* Text for XML: a file may be called anything. */
static void put_escaped(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        const char *entity = *text == '<'   ? "&lt;"
                             : *text == '>' ? "&gt;"
                             : *text == '&' ? "&amp;"
                                            : NULL;
        if (entity != NULL) {
            fputs(entity, file);
        } else {
            fputc((unsigned char)*text < 0x20 ? '?' : *text, file);
        }
    }
}

static void draw(FILE *file, const struct evaluation *evaluation, const char *title)
{
    struct axes axes = choose_axes(evaluation);
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
            "font-family=\"sans-serif\" font-size=\"12\">\n"
            "<style>text{fill:#333}.grid{stroke:#ddd}.line{stroke:#06c;stroke-width:2;fill:none}"
            ".exact{stroke:#999;stroke-dasharray:6 4}circle{fill:#06c}</style>\n"
            "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    fprintf(file, "<text x=\"%d\" y=\"28\" font-size=\"15\">", LEFT);
    put_escaped(file, title);
    fprintf(file, ": queries per second over recall of %zu nearest</text>\n", evaluation->k);
    draw_grid(file, &axes);
    double exact = place_y(&axes, evaluation->exact_qps > 0 ? evaluation->exact_qps : 1);
    fprintf(file, "<path class=\"exact\" d=\"M%d %.1fH%d\"/>\n", LEFT, exact, WIDTH - RIGHT);
    fprintf(file, "<text x=\"%d\" y=\"%.1f\">exact search</text>\n", LEFT + 6, exact - 6);
    fputs("<polyline class=\"line\" points=\"", file);
    for (size_t i = 0; i < evaluation->n_points; i++) {
        const struct point *point = &evaluation->points[i];
        fprintf(file, "%.1f,%.1f ", place_x(&axes, point->recall), place_y(&axes, point->qps));
    }
    fputs("\"/>\n", file);
    for (size_t i = 0; i < evaluation->n_points; i++) {
        const struct point *point = &evaluation->points[i];
        fprintf(file,
                "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>effort %u: recall %.4f, "
                "%.0f queries/s</title></circle>\n",
                place_x(&axes, point->recall), place_y(&axes, point->qps), point->effort,
                point->recall, point->qps);
    }
    fprintf(file, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">recall</text>\n</svg>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12);
}

annex_status plot_write(const struct evaluation *evaluation, const char *title, const char *path,
                        annex_error *error)
{
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return session_error(error, ANNEX_IO, "cannot write %s: %s", path, strerror(errno));
    }
    draw(file, evaluation, title);
    bool failed = ferror(file) != 0;
    failed |= fclose(file) != 0;
    if (failed) {
        return session_error(error, ANNEX_IO, "cannot write %s: %s", path, strerror(errno));
    }
    return ANNEX_OK;
}
