from django.contrib import admin

from .models import Owner, Ship

admin.site.register(Owner)


@admin.register(Ship)
class ShipAdmin(admin.ModelAdmin):
    list_display = ["name", "owner", "built", "in_service"]
    list_filter = ["in_service"]
    search_fields = ["name", "owner__name"]
