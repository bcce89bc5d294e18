/*
 * db_search.c - reads a request and searches: one index (answer.c), or several sources (merge.c).
 */
#include "catalog/search.h"

static annex_status request_check(const annex_db_request *request, annex_error *error)
{
    if (request->struct_bytes != sizeof *request) {
        return error_set(error, ANNEX_INVALID,
                         "annex_db_request.struct_bytes is %zu, expected %zu: use "
                         "ANNEX_DB_REQUEST_INIT",
                         request->struct_bytes, sizeof *request);
    }
    if (request->has_distance && request->distance != request->distance) {
        return error_set(error, ANNEX_INVALID, "the distance to search within is NaN");
    }
    if (request->has_after && request->after_distance != request->after_distance) {
        return error_set(error, ANNEX_INVALID, "the distance to begin behind is NaN");
    }
    return ANNEX_OK;
}

annex_status annex_db_search(annex_db *db, const char *name, const annex_db_request *request,
                             annex_result **result, annex_error *error)
{
    struct catalog_index *index = NULL;
    struct host_statement *hold = NULL;
    *result = NULL;
    TRY(request_check(request, error));
    TRY(sources_open(db, name, &index, &hold, error));
    annex_status status = index->definition.n_sources > 0
                              ? search_merge(db, index, request, result, error)
                              : search_index(db, index, request, result, error);
    db->host->type->finish(hold);
    return status;
}
