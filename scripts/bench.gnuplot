# SPDX-License-Identifier: GPL-2.0
#
# What each way costs a page, by size: csv, svg and unit are given.
set terminal svg size 900,600 background "white"
set output svg
set datafile separator ","
set logscale xy
set xlabel "size of the buffer"
set ylabel "set-up, " . unit . " a page"
set xtics ("4 KiB" 4096, "64 KiB" 65536, "1 MiB" 1048576, "16 MiB" 16777216, "256 MiB" 268435456, "1 GiB" 1073741824)
set grid ytics
set key outside right
ways = "dma_map mlock mlock-thp populate hugetlb heap-system heap-cma memfd-secret floor-clear"
plot for [way in ways] csv using 3:(stringcolumn(1) eq way && stringcolumn(2) eq "recycled" ? $4 * 4096 / $3 : NaN) with linespoints title way
