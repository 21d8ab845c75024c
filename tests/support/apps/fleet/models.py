from django.db import models


class Owner(models.Model):
    name = models.CharField(max_length=100, unique=True)

    def __str__(self):
        return self.name


class Ship(models.Model):
    name = models.CharField(max_length=100)
    owner = models.ForeignKey(Owner, on_delete=models.CASCADE)
    built = models.DateField()
    in_service = models.BooleanField(default=True)
    remarks = models.TextField(blank=True)

    def __str__(self):
        return self.name
