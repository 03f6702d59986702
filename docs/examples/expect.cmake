# SPDX-License-Identifier: BSD-2-Clause
#
# cmake -DPROGRAM=… [-DARGUMENT=…] [-DSORTED=TRUE] -DEXPECTED=expected/NAME -P expect.cmake
#
# Runs the program, with NAME_input.txt as stdin if there is one; it must exit with 0, write nothing to stderr, and print
# NAME.txt. SORTED: in any order of lines. PID and MS in NAME.txt stand for numbers that are different each time.

set(input /dev/null)
if(EXISTS ${EXPECTED}_input.txt)
	set(input ${EXPECTED}_input.txt)
endif()
execute_process(COMMAND ${PROGRAM} ${ARGUMENT} INPUT_FILE ${input}
	OUTPUT_VARIABLE printed ERROR_VARIABLE complained RESULT_VARIABLE status)
file(READ ${EXPECTED}.txt expected)

if(SORTED)
	string(REGEX REPLACE "\n$" "" printed "${printed}")
	string(REPLACE "\n" ";" printed "${printed}")
	list(SORT printed)
	string(REPLACE ";" "\n" printed "${printed}\n")
endif()
if(expected MATCHES "PID")
	string(REGEX REPLACE "worker [1-9][0-9]*" "worker PID" printed "${printed}")
endif()
if(expected MATCHES "MS ms")
	string(REGEX REPLACE " +[0-9]+ ms" " MS ms" printed "${printed}")
endif()
if(NOT status EQUAL 0)
	message(FATAL_ERROR "it ended with: ${status}\n${printed}${complained}")
endif()
if(NOT complained STREQUAL "")
	message(FATAL_ERROR "it wrote to stderr:\n${complained}")
endif()
if(NOT printed STREQUAL expected)
	message(FATAL_ERROR "it printed:\n${printed}\ninstead of:\n${expected}")
endif()
