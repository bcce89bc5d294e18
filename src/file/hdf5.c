/*
 * hdf5.c - a data set of an HDF5 file, in the layout of ann-benchmarks: data sets "train", "test",
 * "neighbors" and "distances", and an attribute "distance" of the file.
 *
 * libhdf5 opens and reads the file by itself: annex_env.io sees only whether it is there, and
 * annex_env.memory nothing. It converts byte order and odd types. It is not safe with several
 * threads in most builds, so one lock is held around its calls; its habit of printing errors is
 * switched off for the same time. Hostile HDF5 files are as safe as libhdf5 is.
 */
#include <hdf5.h>
#include <inttypes.h>
#include <pthread.h>

#include "file/source.h"

#define HDF5_DEFAULT_DATASET "train"
/* Blocks of rows that cut through compressed chunks would unpack these again for every block. */
#define HDF5_MAX_CACHE_BYTES ((size_t)32 << 20)
#define HDF5_USUAL_CACHE_BYTES ((size_t)1 << 20) /* libhdf5's own choice */
#define HDF5_CACHE_SLOTS 4001                    /* a prime, as libhdf5 wants */

struct hdf5_dataset {
    hid_t file;
    hid_t dataset;
    hid_t memory_type; /* libhdf5's name for source.element; ours to close when own_type */
    bool own_type;
};

static pthread_mutex_t hdf5_mutex = PTHREAD_MUTEX_INITIALIZER;

/* What hdf5_enter found and hdf5_leave puts back. */
struct hdf5_session {
    H5E_auto2_t print;
    void *print_data;
};

static void hdf5_enter(struct hdf5_session *session)
{
    pthread_mutex_lock(&hdf5_mutex);
    H5Eget_auto2(H5E_DEFAULT, &session->print, &session->print_data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static void hdf5_leave(const struct hdf5_session *session)
{
    H5Eset_auto2(H5E_DEFAULT, session->print, session->print_data);
    pthread_mutex_unlock(&hdf5_mutex);
}

static const char *hdf5_dataset_name(const struct source *source)
{
    return source->dataset == NULL ? HDF5_DEFAULT_DATASET : source->dataset;
}

/* ---- Opening ----------------------------------------------------------------------------------*/

static annex_status hdf5_open_file(struct source *source, annex_error *error)
{
    const char *name = hdf5_dataset_name(source);
    htri_t is_hdf5 = H5Fis_hdf5(source->path);

    if (is_hdf5 == 0) {
        return error_set(error, ANNEX_DAMAGED, "%s is not an HDF5 file", source->path);
    }
    source->hdf5->file = H5Fopen(source->path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (source->hdf5->file < 0) {
        return error_set(error, ANNEX_DAMAGED,
                         "libhdf5 cannot open %s: it is damaged, or locked by a program that "
                         "writes to it",
                         source->path);
    }
    source->hdf5->dataset = H5Dopen2(source->hdf5->file, name, H5P_DEFAULT);
    if (source->hdf5->dataset < 0) {
        return error_set(error, ANNEX_NOT_FOUND,
                         "%s has no data set \"%s\"; name one with the data set option",
                         source->path, name);
    }
    return ANNEX_OK;
}

static annex_status hdf5_read_shape(struct source *source, annex_error *error)
{
    hsize_t shape[2] = {0, 0};
    hid_t space = H5Dget_space(source->hdf5->dataset);
    int rank = H5Sget_simple_extent_ndims(space);

    if (rank == 2) {
        H5Sget_simple_extent_dims(space, shape, NULL);
    }
    H5Sclose(space);
    if (rank != 2) {
        return error_set(error, ANNEX_INVALID,
                         "data set \"%s\" of %s has %d dimensions; rows of vectors have two",
                         hdf5_dataset_name(source), source->path, rank);
    }
    TRY(source_check_dimension(source, shape[1], error));
    source->rows = shape[0];
    source->dimension = (uint32_t)shape[1];
    return ANNEX_OK;
}

/* IEEE half precision, which this version of libhdf5 has no name for. */
static hid_t hdf5_half_type(void)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);

    if (type >= 0 && (H5Tset_fields(type, 15, 10, 5, 0, 10) < 0 || H5Tset_size(type, 2) < 0 ||
                      H5Tset_ebias(type, 15) < 0)) {
        H5Tclose(type);
        return H5I_INVALID_HID;
    }
    return type;
}

static void hdf5_choose_float(struct source *source, hid_t file_type)
{
    struct hdf5_dataset *hdf5 = source->hdf5;
    size_t bytes = H5Tget_size(file_type);
    hid_t half = bytes == 2 ? hdf5_half_type() : H5I_INVALID_HID;

    source->element = bytes > 4 ? ELEMENT_F64 : ELEMENT_F32;
    hdf5->memory_type = bytes > 4 ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT;
    if (half >= 0 && H5Tequal(half, file_type) > 0) {
        /* Read as it is: libhdf5 would widen it, but some twenty times slower. */
        source->element = ELEMENT_F16;
        hdf5->memory_type = half;
        hdf5->own_type = true;
    } else if (half >= 0) {
        H5Tclose(half);
    }
}

static void hdf5_choose_integer(struct source *source, hid_t file_type)
{
    bool is_byte = H5Tget_size(file_type) == 1;
    bool is_signed = H5Tget_sign(file_type) != H5T_SGN_NONE;

    if (!is_byte) {
        source->element = ELEMENT_I64;
        source->hdf5->memory_type = H5T_NATIVE_INT64;
        return;
    }
    source->element = is_signed ? ELEMENT_I8 : ELEMENT_U8;
    source->hdf5->memory_type = is_signed ? H5T_NATIVE_INT8 : H5T_NATIVE_UINT8;
}

static annex_status hdf5_read_type(struct source *source, annex_error *error)
{
    hid_t file_type = H5Dget_type(source->hdf5->dataset);
    H5T_class_t class = H5Tget_class(file_type);

    if (class == H5T_FLOAT) {
        hdf5_choose_float(source, file_type);
    } else if (class == H5T_INTEGER) {
        hdf5_choose_integer(source, file_type);
    }
    H5Tclose(file_type);
    if (class != H5T_FLOAT && class != H5T_INTEGER) {
        return error_set(error, ANNEX_UNSUPPORTED,
                         "data set \"%s\" of %s holds neither floating-point numbers nor integers",
                         hdf5_dataset_name(source), source->path);
    }
    source->format = element_format(source->element);
    return ANNEX_OK;
}

/* Compression that this libhdf5 does not know is no damage, and can be said before reading. */
static annex_status hdf5_check_filters(const struct source *source, annex_error *error)
{
    hid_t creation = H5Dget_create_plist(source->hdf5->dataset);
    int n = H5Pget_nfilters(creation);
    char name[32] = "";
    bool available = true;

    for (int i = 0; i < n && available; i++) {
        unsigned flags;
        size_t values = 0;
        H5Z_filter_t filter =
            H5Pget_filter2(creation, (unsigned)i, &flags, &values, NULL, sizeof name, name, NULL);

        available = H5Zfilter_avail(filter) > 0;
    }
    H5Pclose(creation);
    if (!available) {
        name[sizeof name - 1] = '\0';
        return error_set(error, ANNEX_UNSUPPORTED,
                         "data set \"%s\" of %s is compressed by \"%s\", which the installed "
                         "libhdf5 does not have; write it with gzip, or without compression",
                         hdf5_dataset_name(source), source->path, name);
    }
    return ANNEX_OK;
}

/* Bytes of the chunks that one row touches; 0 when the data set is not cut into chunks. */
static uint64_t hdf5_chunk_row_bytes(const struct source *source)
{
    hid_t creation = H5Dget_create_plist(source->hdf5->dataset);
    hsize_t chunk[2];
    uint64_t bytes = 0;

    if (H5Pget_layout(creation) == H5D_CHUNKED && H5Pget_chunk(creation, 2, chunk) == 2) {
        uint64_t columns = round_up(source->dimension, MAX(chunk[1], 1));

        if (!checked_multiply(chunk[0], columns, &bytes) ||
            !checked_multiply(bytes, element_bytes(source->element), &bytes)) {
            bytes = UINT64_MAX;
        }
    }
    H5Pclose(creation);
    return bytes;
}

/* Opens the data set again - the first time decides - with a cache that serves row after row. */
static annex_status hdf5_enlarge_cache(struct source *source, annex_error *error)
{
    struct hdf5_dataset *hdf5 = source->hdf5;
    uint64_t bytes = hdf5_chunk_row_bytes(source);
    hid_t access;

    if (bytes <= HDF5_USUAL_CACHE_BYTES || bytes > HDF5_MAX_CACHE_BYTES) {
        return ANNEX_OK;
    }
    access = H5Dget_access_plist(hdf5->dataset);
    H5Pset_chunk_cache(access, HDF5_CACHE_SLOTS, bytes, 1.0);
    H5Dclose(hdf5->dataset);
    hdf5->dataset = H5Dopen2(hdf5->file, hdf5_dataset_name(source), access);
    H5Pclose(access);
    if (hdf5->dataset < 0) {
        return error_set(error, ANNEX_IO, "libhdf5 cannot open data set \"%s\" of %s again",
                         hdf5_dataset_name(source), source->path);
    }
    return ANNEX_OK;
}

/* ---- The metric -------------------------------------------------------------------------------*/

/* Copies a text attribute of either of HDF5's two kinds of strings. */
static bool hdf5_read_text(hid_t attribute, char *text, size_t text_bytes)
{
    bool found = false;
    char *variable = NULL;
    hid_t type = H5Aget_type(attribute);
    hid_t space = H5Aget_space(attribute);

    memset(text, 0, text_bytes);
    if (H5Tget_class(type) != H5T_STRING || H5Sget_simple_extent_npoints(space) != 1) {
        goto cleanup;
    }
    if (H5Tis_variable_str(type) > 0) {
        if (H5Aread(attribute, type, &variable) >= 0 && variable != NULL) {
            found = strlen(variable) < text_bytes;
            memcpy(text, variable, found ? strlen(variable) : 0);
            H5free_memory(variable);
        }
    } else if (H5Tget_size(type) < text_bytes) {
        found = H5Aread(attribute, type, text) >= 0;
    }

cleanup:
    H5Sclose(space);
    H5Tclose(type);
    return found;
}

/* An attribute that is missing or says something else leaves the metric open. */
static void hdf5_read_metric(struct source *source)
{
    char text[32];
    hid_t attribute;

    if (H5Aexists(source->hdf5->file, "distance") <= 0) {
        return;
    }
    attribute = H5Aopen(source->hdf5->file, "distance", H5P_DEFAULT);
    if (attribute < 0) {
        return;
    }
    if (hdf5_read_text(attribute, text, sizeof text)) {
        (void)annex_metric_parse(text, &source->metric, NULL);
    }
    H5Aclose(attribute);
}

/* ---- The kind ---------------------------------------------------------------------------------*/

annex_status hdf5_read_header(struct source *source, annex_error *error)
{
    const annex_io *io = &source->env->io;
    struct hdf5_session session;
    annex_status status;

    /* The environment's file was opened to say in the usual way why that is not possible. */
    (void)io->close(io->context, source->file);
    source->file = NULL;
    TRY(memory_new(source->env, 1, sizeof *source->hdf5, &source->hdf5, error));
    *source->hdf5 = (struct hdf5_dataset){
        .file = H5I_INVALID_HID, .dataset = H5I_INVALID_HID, .memory_type = H5I_INVALID_HID};
    hdf5_enter(&session);
    TRY_CLEANUP(hdf5_open_file(source, error));
    TRY_CLEANUP(hdf5_read_shape(source, error));
    TRY_CLEANUP(hdf5_read_type(source, error));
    TRY_CLEANUP(hdf5_check_filters(source, error));
    hdf5_read_metric(source);
    TRY_CLEANUP(hdf5_enlarge_cache(source, error));

cleanup:
    hdf5_leave(&session);
    return status;
}

annex_status hdf5_read_rows(struct source *source, uint64_t first, size_t n, void *elements,
                            annex_error *error)
{
    struct hdf5_session session;
    hsize_t start[2] = {first, 0};
    hsize_t count[2] = {n, source->dimension};
    hid_t file_space;
    hid_t memory_space;
    bool done;

    hdf5_enter(&session);
    file_space = H5Dget_space(source->hdf5->dataset);
    memory_space = H5Screate_simple(2, count, NULL);
    done = H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
           H5Dread(source->hdf5->dataset, source->hdf5->memory_type, memory_space, file_space,
                   H5P_DEFAULT, elements) >= 0;
    H5Sclose(memory_space);
    H5Sclose(file_space);
    hdf5_leave(&session);
    if (!done) {
        return error_set(error, ANNEX_DAMAGED,
                         "libhdf5 cannot read rows %" PRIu64 " to %" PRIu64
                         " of data set \"%s\" of %s",
                         first, first + n - 1, hdf5_dataset_name(source), source->path);
    }
    return ANNEX_OK;
}

void hdf5_close(struct source *source)
{
    struct hdf5_dataset *hdf5 = source->hdf5;
    struct hdf5_session session;

    hdf5_enter(&session);
    if (hdf5->own_type) {
        H5Tclose(hdf5->memory_type);
    }
    if (hdf5->dataset >= 0) {
        H5Dclose(hdf5->dataset);
    }
    if (hdf5->file >= 0) {
        H5Fclose(hdf5->file);
    }
    hdf5_leave(&session);
    memory_free(source->env, hdf5, 1, sizeof *hdf5);
    source->hdf5 = NULL;
}
