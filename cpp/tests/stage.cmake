# Installs the package of BUILD into STAGE by way of another folder, which shows that it can be moved.
file(REMOVE_RECURSE "${STAGE}" "${STAGE}-first")
execute_process(COMMAND "${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${STAGE}-first" --component xvec
                COMMAND_ERROR_IS_FATAL ANY)
file(RENAME "${STAGE}-first" "${STAGE}")
