def print_summary(folder): print(folder)
